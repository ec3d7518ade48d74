"""Cell types from a pretrained encoder: a frozen probe first, then the whole network where labels suffice."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import sparse
from scipy.optimize import minimize_scalar
from sklearn.neighbors import NearestNeighbors

from sc_ssl import _compat
from sc_ssl._logging import logger
from sc_ssl.data import Cells

from ._base import SSLModel
from ._best_f1 import BestMacroF1, validation_cells
from ._classifier_module import CellClassifierModule, Head
from ._encoders import class_named, copy_encoder, latent_width
from ._storage import read_config
from ._training import TrainingDefaults, fit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from anndata import AnnData
    from lightning.pytorch import Callback


#: labelled cells of a typical (median) type from which on the encoder is trained too
MIN_TO_UNFREEZE = 20


class CellClassifier(SSLModel):
    """Names cell types with the encoder of any trained model of this package; :meth:`from_pretrained` makes one.

    With few labels a head on the frozen encoder does better than training everything, so that comes first; the whole
    network follows, the encoder at a lower rate, where a typical type has 20 labelled cells or more. Departs from
    scPretrain's code in that; in standardised embeddings and ReLU in the head instead of sigmoids; in early stopping on
    macro F1 of a stratified validation split instead of on accuracy; and in probabilities that are calibrated.

    Parameters
    ----------
    adata
        Not used; see :meth:`from_pretrained`.
    registry
        The registry of the pretrained model.
    pretrained
        Class and constructor arguments of the pretrained model.
    classes
        Names of the types, in the order of the probabilities.
    labels_key
        Column of ``obs`` with the types.
    unlabeled_category
        Its value for cells without a type.
    n_hidden
        Widths of the head's hidden layers.
    dropout_rate
        In the head, in [0, 1).

    References
    ----------
    Zhang et al. (2022), Bioinformatics 38:1607. Guo et al. (2017), On calibration of modern neural networks, ICML.
    """

    module: CellClassifierModule
    training = TrainingDefaults(max_epochs=100, batch_size=128, plan={"weight_decay": 1e-2, "schedule": "constant"})
    takes_new_batches = True

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        pretrained: dict[str, Any],
        classes: Sequence[str],
        labels_key: str,
        unlabeled_category: str = "Unknown",
        n_hidden: Sequence[int] = (100,),
        dropout_rate: float = 0.1,
    ) -> None:
        if adata is not None:
            raise TypeError("a CellClassifier starts from a pretrained model; use CellClassifier.from_pretrained.")
        super().__init__(None, registry)
        self.classes, self.labels_key, self.unlabeled_category = list(classes), labels_key, unlabeled_category
        self._label_n: np.ndarray | None = None
        encoder = class_named(pretrained["class"])(None, registry=registry, **pretrained["init_params"])
        head = Head(latent_width(encoder.module), n_hidden, len(self.classes), dropout_rate=dropout_rate)
        self.module = CellClassifierModule(encoder=encoder.module, head=head)
        self.init_params_ = self._get_init_params(locals())

    @classmethod
    def from_pretrained(
        cls,
        model: SSLModel | str | Path,
        adata: AnnData,
        *,
        labels_key: str,
        unlabeled_category: str = "Unknown",
        extra_genes: Literal["drop", "append"] = "drop",
        min_coverage: float = 0.5,
        layer: str | None = None,
        **head_kwargs: Any,
    ) -> Self:
        """A classifier for the types of some cells, from a trained model (which stays as it is) or a saved one.

        Parameters
        ----------
        model
            Any model of this package, or its folder.
        adata
            Cells with types; they need no setup and are not changed. Genes are matched by name.
        labels_key
            Column of ``obs`` with the types; missing values are cells without.
        unlabeled_category
            The value of cells without a type.
        extra_genes
            Genes that the model does not know: ``"drop"``, or ``"append"`` with random weights, for models whose
            tensors have genes as an axis.
        min_coverage
            Smallest share of the model's genes that must be there, in (0, 1].
        layer
            Layer of counts; ``None`` takes ``layers["counts"]`` if there, else ``X``.
        **head_kwargs
            ``n_hidden``, ``dropout_rate``.

        Raises
        ------
        KeyError
            No such column.
        ValueError
            Under two types, or too few genes in common.
        """
        source = model if isinstance(model, SSLModel) else class_named(read_config(model)["class"]).load(model)
        label = _labels(adata, labels_key, unlabeled_category)
        classes = sorted(label.dropna().unique())
        if len(classes) < 2:
            raise ValueError(
                f"obs[{labels_key!r}] should name at least two types, found {classes or 'none: all cells are unlabelled'}."
            )
        alone = [name for name, n in label.value_counts().items() if n == 1]
        if alone:
            logger.warning("Types of one cell are trained on and never validated: %s.", ", ".join(alone))
        known = source.var_names
        genes = known + [g for g in adata.var_names if g not in set(known)] if extra_genes == "append" else known
        layer = "counts" if layer is None and "counts" in adata.layers else layer
        registry = _compat.registry_for(source.registry_, genes, layer=layer)
        pretrained = {"class": type(source).__name__, "init_params": source.plain_init_params()}
        classifier = cls(
            None,
            registry,
            pretrained=pretrained,
            classes=classes,
            labels_key=labels_key,
            unlabeled_category=unlabeled_category,
            **head_kwargs,
        )
        classifier._attach(adata, min_coverage=min_coverage * len(known) / len(genes))
        copy_encoder(source, classifier)
        classifier.module.eval()
        classifier.to_device(source.device)
        return classifier

    def train(
        self,
        max_epochs: int | None = None,
        *,
        freeze_encoder: bool | None = None,
        freeze_encoder_epochs: int | None = None,
        lr_head: float = 1e-3,
        lr_encoder: float = 1e-4,
        class_weight: Literal["balanced"] | None = "balanced",
        validation_size: float = 0.2,
        patience: int = 15,
        refused_share: float = 0.05,
        **fit_options: Any,
    ) -> None:
        """Train on the labelled cells: the head on the frozen encoder, then all of it; then calibrate.

        Every type with at least three labelled cells gives some to a validation split; on it the state with the best
        macro F1 is kept, the temperature is fitted and the threshold for unknown cells is chosen. With under ten
        validation cells there is no split: the last state is kept, uncalibrated, and no cell is called unknown.

        Parameters
        ----------
        max_epochs
            Of each stage; 100 by default.
        freeze_encoder
            Train the head only; by default when a typical type has under 20 labelled cells.
        freeze_encoder_epochs
            Of the first stage; as many as ``max_epochs`` by default, 0 leaves it out.
        lr_head, lr_encoder
            Learning rates.
        class_weight
            ``"balanced"`` gives every type the same weight.
        validation_size
            Share of each type's cells, in [0, 1).
        patience
            Epochs without a better macro F1.
        refused_share
            Share of the validation cells that are named rightly which the threshold may call unknown, in [0, 1).
        **fit_options
            ``batch_size``, ``accelerator``, ``enable_progress_bar``, ….
        """
        cells, label_n = self._labelled()
        held_out = validation_cells(label_n, validation_size)
        fit_index = np.setdiff1d(np.arange(len(label_n)), held_out)
        n_k = np.bincount(label_n[fit_index], minlength=len(self.classes))
        weight_k = len(fit_index) / (len(n_k) * np.maximum(n_k, 1)) if class_weight == "balanced" else np.ones(len(n_k))
        self.module.head.class_weight_k.copy_(torch.as_tensor(weight_k))
        self.module.temperature.fill_(1)
        self.module.threshold.fill_(0)
        if freeze_encoder is None:
            freeze_encoder = bool(np.median(n_k[n_k > 0]) < MIN_TO_UNFREEZE)
        z_nd = self._embed(cells)
        if not self.is_trained_:
            self.module.head.standardize(torch.as_tensor(z_nd))
        first = max_epochs if freeze_encoder_epochs is None else freeze_encoder_epochs
        options = {"patience": patience, **fit_options}
        if first != 0 or freeze_encoder:
            matrix = sparse.csr_matrix(z_nd)
            embedded = replace(cells, matrix=matrix, column_g=np.arange(matrix.shape[1]))
            head, rates = self.module.head, {"lr": lr_head}
            self._fit(head, embedded, label_n, held_out, rates=rates, prefix="head_", max_epochs=first, **options)
            self.is_trained_ = True
        if not freeze_encoder:
            rates = {"lr": lr_head, "lr_factor": {"encoder.": lr_encoder / lr_head}}
            self._fit(self.module, cells, label_n, held_out, rates=rates, prefix="", max_epochs=max_epochs, **options)
        if len(held_out):
            self._calibrate(cells.take(held_out), label_n[held_out], refused_share)

    def get_latent_representation(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """The encoder's embedding of cells, before or after fine-tuning; as of the other models."""
        return self._map_cells(self.module.embed, adata, indices, batch_size)

    @property
    def labels(self) -> np.ndarray:
        """Types of the classifier's own cells, (n,), ``None`` where there is none."""
        label_n = np.full(self._own_cells().n_cells, -1) if self._label_n is None else self._label_n
        return np.asarray([*self.classes, None], dtype=object)[label_n]

    def predict(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        *,
        soft: bool = False,
        return_uncertainty: bool = False,
        unknown: str | None = "Unknown",
    ) -> Any:
        """Name the types of cells, by default the classifier's own; rows come in the order asked for.

        Parameters
        ----------
        adata, indices
            Cells, as in :meth:`get_latent_representation`.
        soft
            The probability of each type instead of a name.
        return_uncertainty
            Also 1 − the probability of the most probable type.
        unknown
            What a cell is called whose most probable type is less probable than the threshold that training chose;
            ``None`` names a type for every cell.

        Returns
        -------
        (n,) names, or with ``soft`` a data frame (n, k) of calibrated probabilities with the types as columns; with
        ``return_uncertainty`` a pair of that and (n,) in [0, 1].
        """
        self._check_if_trained(warn=False)
        proba_nk = self._map_cells(self.module.proba, adata, indices)
        top_n = proba_nk.max(axis=1)
        name_n = np.asarray(self.classes, dtype=object)[proba_nk.argmax(axis=1)]
        if unknown is not None:
            name_n[top_n < float(self.module.threshold)] = unknown
        cells = self._adata if adata is None else adata
        index = cells.obs_names if indices is None else cells.obs_names[np.asarray(indices)]
        found = pd.DataFrame(proba_nk, index=index, columns=self.classes) if soft else name_n
        return (found, 1 - top_n) if return_uncertainty else found

    def predict_knn(self, adata: AnnData | None = None, *, n_neighbors: int = 15, soft: bool = False) -> Any:
        """Name the types of cells by the labelled cells that are nearest in the embedding (cosine, near ones weigh more).

        Parameters
        ----------
        adata
            Cells; by default the classifier's own labelled cells, each without itself among its neighbours.
        n_neighbors
            Labelled neighbours that vote, at most all.
        soft
            The share of the votes of each type instead of a name.

        Returns
        -------
        (n,) names, or a data frame (n, k) with the types as columns.
        """
        cells, label_n = self._labelled()
        neighbors = NearestNeighbors(metric="cosine").fit(self._embed(cells))
        query_nd = None if adata is None else self._map_cells(self.module.embed, adata, None)
        n_neighbors = min(n_neighbors, len(label_n) - (adata is None))
        distance_nm, index_nm = neighbors.kneighbors(query_nd, n_neighbors)  # without a query, a cell is not its own
        vote_nm = 1 / np.maximum(distance_nm, 1e-6)
        vote_nk = np.zeros((len(vote_nm), len(self.classes)))
        np.add.at(vote_nk, (np.arange(len(vote_nm))[:, None], label_n[index_nm]), vote_nm)
        proba_nk = vote_nk / vote_nk.sum(axis=1, keepdims=True)
        if not soft:
            return np.asarray(self.classes, dtype=object)[proba_nk.argmax(axis=1)]
        names = self._adata.obs_names[self._label_n >= 0] if adata is None else adata.obs_names
        return pd.DataFrame(proba_nk, index=names, columns=self.classes)

    def _fit(
        self,
        module: Head | CellClassifierModule,
        cells: Cells,
        label_n: np.ndarray,
        held_out: np.ndarray,
        *,
        patience: int,
        rates: dict[str, Any],
        callbacks: Iterable[Callback] = (),
        plan_kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """One stage of training; when it is interrupted, the best state so far stays, and the stage starts anew."""
        if len(held_out):
            callbacks = [
                BestMacroF1(module, cells.take(held_out), label_n[held_out], patience, options["prefix"]),
                *callbacks,
            ]
        plan = self.training.plan | rates | (plan_kwargs or {})
        labelled = cells.beside(label=label_n)
        try:
            fit(
                self,
                module,
                self.training,
                cells=labelled,
                val_idx=held_out,
                plan_kwargs=plan,
                callbacks=callbacks,
                **options,
            )
        finally:
            self.unfinished = None  # a split drawn anew would not be the one that it was interrupted with

    @torch.inference_mode()
    def _embed(self, cells: Cells) -> np.ndarray:
        self.module.eval()
        return torch.cat([self.module.embed(minibatch).float().cpu() for minibatch in self._loader(cells)]).numpy()

    @torch.no_grad()
    def _calibrate(self, cells: Cells, label_n: np.ndarray, refused_share: float) -> None:
        """The temperature with the smallest validation loss; the threshold that calls few of the right cells unknown.

        Targets are smoothed as Platt (1999) does, so that a handful of cells all named rightly does not ask for certainty.
        """
        logit_nk = torch.cat([self.module.logits(minibatch).cpu() for minibatch in self._loader(cells)]).double()
        label, smoothing = torch.as_tensor(label_n), 1 / (len(label_n) + 2)

        def loss(log_temperature: float) -> float:
            return float(F.cross_entropy(logit_nk / np.exp(log_temperature), label, label_smoothing=smoothing))

        temperature = float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))
        self.module.temperature.fill_(temperature)
        proba_nk = (logit_nk / temperature).softmax(dim=1)
        right = proba_nk.argmax(dim=1) == label
        if right.any():
            self.module.threshold.fill_(float(torch.quantile(proba_nk.amax(dim=1)[right], refused_share)))

    def _attach(self, adata: AnnData, *, min_coverage: float) -> None:
        super()._attach(adata, min_coverage=min_coverage)
        if self.labels_key in adata.obs:
            label = _labels(adata, self.labels_key, self.unlabeled_category)
            self._label_n = pd.Index(self.classes).get_indexer(label)
        else:
            self._label_n = None

    def _labelled(self) -> tuple[Cells, np.ndarray]:
        """The cells with a known type, and its code."""
        cells = self._own_cells()
        if self._label_n is None or (self._label_n < 0).all():
            raise ValueError(
                f"labelled cells are needed: obs[{self.labels_key!r}] is missing, or names none of "
                f"{', '.join(self.classes[:5])}."
            )
        index = np.flatnonzero(self._label_n >= 0)
        return cells.take(index), self._label_n[index]


def _labels(adata: AnnData, key: str, unlabeled_category: str) -> pd.Series:
    """Types as strings, missing where there is none."""
    if key not in adata.obs:
        raise KeyError(f"{key!r} is not in adata.obs, which has {', '.join(adata.obs) or 'none'}.")
    label = adata.obs[key].astype(object).where(adata.obs[key].notna().to_numpy(), None)
    label = label.map(lambda value: None if value is None else str(value))
    return label.where((label != unlabeled_category).to_numpy(), None)
