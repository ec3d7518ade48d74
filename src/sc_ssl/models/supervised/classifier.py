"""Cell types from a pretrained encoder: a probe on the frozen encoder, and from there the whole network."""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from sklearn.neighbors import NearestNeighbors

from sc_ssl import _compat
from sc_ssl._checks import check_choice
from sc_ssl._logging import logger
from sc_ssl.data import find_layer
from sc_ssl.models.base import SSLModel, TrainingDefaults, class_named, positions, read_config

from .encoder import copy_encoder, gene_slot, latent_width, warn_untrained
from .fine_tune import MIN_TO_CHOOSE, Adapt, ending, fine_tune, validation_cells
from .head import CellClassifierModule, ClassWeight, Head
from .labels import labelled_cells, lone_types, read_types, type_codes, type_names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData
    from torch import Tensor


class CellNamer(SSLModel):
    """A model that knows types, the labels of its own cells, and how probable each type is for a cell."""

    module: CellClassifierModule
    classes: list[str]
    labels_key: str
    unlabeled_category: str
    #: code of each own cell's type, −1 where there is none
    _label_n: np.ndarray | None = None

    def get_latent_representation(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """What the head reads of cells, before or after fine-tuning; as of the other models."""
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
        unknown: str | bool | None = True,
        center: bool = False,
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
            What a cell is called whose most probable type is less probable than the threshold that training chose, with
            ``True`` the ``unlabeled_category``; ``None`` or ``False`` name a type for every cell.
        center
            Move the cells' mean embedding to that of the cells trained with first, which removes what sets all of one
            apart from all of the other, such as platform or species; of harm where the types differ, or cells are few.

        Returns
        -------
        (n,) names, or with ``soft`` a data frame (n, k) of calibrated probabilities with the types as columns; with
        ``return_uncertainty`` a pair of that and (n,) in [0, 1].
        """
        self._check_if_trained(warn=False)
        if center:
            z_nd = torch.as_tensor(self._map_cells(self.module.embed, adata, indices)).to(self.device)
            proba_nk = self.module.proba_at(z_nd - z_nd.mean(dim=0) + self.module.center_d).numpy(force=True)
        else:
            proba_nk = self._map_cells(self.module.proba, adata, indices)
        top_n = proba_nk.max(axis=1)
        name_n = np.asarray(self.classes, dtype=object)[proba_nk.argmax(axis=1)]
        if unknown:
            name_n[top_n < float(self.module.threshold)] = self.unlabeled_category if unknown is True else unknown
        names = (self._adata if adata is None else adata).obs_names
        index = names[positions(len(names), indices)]
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
        index, label_n = self._labelled()
        own_nd = self._map_cells(self.module.embed, None, index)
        query_nd = None if adata is None else self._map_cells(self.module.embed, adata, None)
        proba_nk = neighbor_votes(own_nd, label_n, len(self.classes), query_nd, n_neighbors=n_neighbors)
        if not soft:
            return np.asarray(self.classes, dtype=object)[proba_nk.argmax(axis=1)]
        names = self._adata.obs_names[index] if adata is None else adata.obs_names
        return pd.DataFrame(proba_nk, index=names, columns=self.classes)

    def _attach(self, adata: AnnData, *, min_coverage: float) -> None:
        super()._attach(adata, min_coverage=min_coverage)
        self._label_n = type_codes(adata, self.labels_key, self.unlabeled_category, self.classes)

    def _labelled(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the cells with a known type, and its code."""
        self._own_cells()  # its error comes first
        index = labelled_cells(self._label_n, self.labels_key, self.classes)
        return index, self._label_n[index]


def calibration(logit_nk: Tensor, label_n: np.ndarray, refused_share: float) -> tuple[float, float]:
    """The temperature with the smallest cross-entropy; the threshold that calls few of the right cells unknown.

    Temperature scaling of Guo et al. (2017). Targets are smoothed as Platt (1999) does, so that a handful of cells all
    named rightly does not ask for certainty.

    Parameters
    ----------
    logit_nk
        Of cells that were not trained on, (n, k).
    label_n
        Their types' codes, (n,).
    refused_share
        Share of the cells named rightly that lie below the threshold, in [0, 1).

    Returns
    -------
    Temperature (> 0), and probability of the most probable type in [0, 1], 0 when no cell is named rightly.
    """
    logit_nk, label, smoothing = logit_nk.double(), torch.as_tensor(label_n), 1 / (len(label_n) + 2)

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(logit_nk / np.exp(log_temperature), label, label_smoothing=smoothing))

    temperature = float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))
    proba_nk = (logit_nk / temperature).softmax(dim=1)
    right = proba_nk.argmax(dim=1) == label
    threshold = float(torch.quantile(proba_nk.amax(dim=1)[right], refused_share)) if right.any() else 0.0
    return temperature, threshold


def neighbor_votes(
    x_md: np.ndarray, label_m: np.ndarray, n_classes: int, query_nd: np.ndarray | None, *, n_neighbors: int
) -> np.ndarray:
    """Share of the votes of each type, (n, k); neighbours by cosine, near ones weigh more (1 / distance).

    Without a query the labelled cells are asked for themselves, each without itself among its neighbours.
    """
    neighbors = NearestNeighbors(metric="cosine").fit(x_md)
    n_neighbors = min(n_neighbors, len(label_m) - (query_nd is None))
    distance_nm, index_nm = neighbors.kneighbors(query_nd, n_neighbors)  # without a query, a cell is not its own
    vote_nm = 1 / np.maximum(distance_nm, 1e-6)
    vote_nk = np.zeros((len(vote_nm), n_classes))
    np.add.at(vote_nk, (np.arange(len(vote_nm))[:, None], label_m[index_nm]), vote_nm)
    return vote_nk / vote_nk.sum(axis=1, keepdims=True)


class CellClassifier(CellNamer):
    """Names cell types with the encoder of any trained model of this package; :meth:`from_pretrained` makes one.

    The head starts as a logistic regression on the frozen encoder, so that training the whole network, the encoder at a
    lower rate, distorts it less (Kumar et al. 2022). Departs from scPretrain's code in that; in standardised embeddings
    and ReLU in the head instead of sigmoids; in early stopping on macro F1 of a stratified validation split, where that
    is large enough to choose by, instead of on accuracy; and in probabilities that are calibrated.

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
    reads
        What the head reads: the encoder's ``"embedding"``; or, of :class:`CellLM`, ``"gene_slots"``, one number for each
        gene's token at the gene's place, as CellLM's authors do (with ``n_hidden=(512, 128)``).
    n_hidden
        Widths of the hidden layers of a network that adds to the head's linear map; none with ``()``.
    dropout_rate
        In the head, in [0, 1).

    References
    ----------
    Zhang et al. (2022), Bioinformatics 38:1607. Guo et al. (2017), On calibration of modern neural networks, ICML.
    Kumar et al. (2022), Fine-tuning can distort pretrained features and underperform out-of-distribution, ICLR.
    """

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
        reads: Literal["embedding", "gene_slots"] = "embedding",
        n_hidden: Sequence[int] = (100,),
        dropout_rate: float = 0.1,
    ) -> None:
        if adata is not None:
            raise TypeError("a CellClassifier starts from a pretrained model; use CellClassifier.from_pretrained.")
        super().__init__(None, registry)
        self.classes, self.labels_key, self.unlabeled_category = list(classes), labels_key, unlabeled_category
        self._split: tuple[float, np.ndarray] | None = None
        check_choice("reads", reads, ("embedding", "gene_slots"))
        encoder = class_named(pretrained["class"])(None, registry=registry, **pretrained["init_params"])
        width, slot = latent_width(encoder.module), None
        if reads == "gene_slots":
            slot, width = gene_slot(encoder), len(encoder.var_names) + 1
        head = Head(width, n_hidden, len(self.classes), dropout_rate=dropout_rate)
        self.module = CellClassifierModule(encoder=encoder.module, slot=slot, head=head)
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
            ``reads``, ``n_hidden``, ``dropout_rate``.

        Raises
        ------
        KeyError
            No such column.
        ValueError
            Under two types, or too few genes in common.
        """
        source = model if isinstance(model, SSLModel) else class_named(read_config(model)["class"]).load(model)
        if isinstance(source, CellClassifier):
            raise ValueError(
                "a pretrained model is needed, found a CellClassifier; take the model that it started from."
            )
        warn_untrained(source)
        check_choice("extra_genes", extra_genes, ("drop", "append"))
        if not 0 < min_coverage <= 1:
            raise ValueError(f"min_coverage is a share of the model's genes, in (0, 1], found {min_coverage}.")
        label = read_types(adata, labels_key, unlabeled_category)
        classes = type_names(label, labels_key)
        if lone_types(label):
            logger.warning("Types of one cell are learnt from that cell alone: %s.", ", ".join(lone_types(label)))
        known = source.var_names
        genes = known + [g for g in adata.var_names if g not in set(known)] if extra_genes == "append" else known
        layer = find_layer(adata, layer)
        registry = _compat.registry_for(source.registry_, genes, layer=layer)
        pretrained = {"class": type(source).__name__, "init_params": source.plain_init_params()}
        labelled = {"classes": classes, "labels_key": labels_key, "unlabeled_category": unlabeled_category}
        classifier = cls(None, registry, pretrained=pretrained, **labelled, **head_kwargs)
        classifier._attach(adata, min_coverage=min_coverage * len(known) / len(genes))
        copy_encoder(source, classifier)
        classifier.module.eval()
        classifier.to_device(source.device)
        return classifier

    def train(
        self,
        max_epochs: int | None = None,
        *,
        freeze_encoder: bool = False,
        freeze_encoder_epochs: int | None = None,
        lr_head: float = 1e-3,
        lr_encoder: float = 3e-4,
        adapt: Adapt = "all",
        class_weight: ClassWeight | None = "balanced",
        validation_size: float = 0.2,
        patience: int = 15,
        refused_share: float = 0.05,
        **fit_options: Any,
    ) -> None:
        """Train on the labelled cells: a logistic regression on the frozen encoder, and from there on all of it.

        Every type with at least three labelled cells gives some to a validation split; on it the state with the best
        macro F1 is kept, the temperature is fitted and the threshold for unknown cells is chosen. With under 100
        validation cells, too few to choose a state by, all epochs are run, and run again with the validation cells
        among the others; with under ten there is no split, probabilities are uncalibrated and no cell is called unknown.
        A classifier that is trained, or was interrupted, trains on from where it is, with the same split unless it was
        loaded since.

        Parameters
        ----------
        max_epochs
            Of each stage; 100 by default.
        freeze_encoder
            Train the head only; ``"gene_slots"`` then are sums with random weights.
        freeze_encoder_epochs
            Epochs of the head alone, beyond the logistic regression that it starts from; none by default, but as many
            as ``max_epochs`` when the encoder stays frozen and a state can be chosen.
        lr_head, lr_encoder
            Learning rates.
        adapt
            What of the encoder is trained when it is not frozen: ``"all"``; or of a transformer its ``"last"`` block and
            final norm, as CellLM's authors do; or ``"lora"``, updates of rank 8 of its attention (take a larger
            ``lr_encoder`` for it), which are in the weights afterwards.
        class_weight
            ``"balanced"`` gives every type the same weight, ``"squared"`` a cell the weight (1 − share of its type)²,
            as CellLM's authors do.
        validation_size
            Share of each type's cells, in [0, 1).
        patience
            Epochs without a better macro F1.
        refused_share
            Share of the validation cells that are named rightly which the threshold may call unknown, in [0, 1).
        **fit_options
            ``batch_size``, ``accelerator``, ``enable_progress_bar``, ….
        """
        check_choice("adapt", adapt, get_args(Adapt))
        if not (lr_head > 0 and lr_encoder >= 0 and 0 <= refused_share < 1):
            raise ValueError(
                "lr_head is above 0, lr_encoder at least 0 and refused_share lies in [0, 1), found "
                f"{lr_head}, {lr_encoder} and {refused_share}."
            )
        if "early_stopping" in fit_options:
            raise TypeError("a CellClassifier stops by macro F1 after patience= epochs; leave early_stopping out.")
        index, label_n = self._labelled()
        held_out = self._kept_aside(label_n, validation_size)
        tune = partial(
            fine_tune,
            self,
            max_epochs=max_epochs,
            freeze_encoder=freeze_encoder,
            head_epochs=freeze_encoder_epochs,
            lr_head=lr_head,
            lr_encoder=lr_encoder,
            adapt=adapt,
            class_weight=class_weight,
            **fit_options | {"callbacks": list(fit_options.get("callbacks", ()))},
        )
        if not len(held_out):
            logger.warning(
                "%d labelled cells are too few to keep some aside: probabilities are not calibrated, and no cell is called "
                "unknown.",
                len(index),
            )
        finish = partial(self._finish, index[held_out], label_n[held_out], refused_share)
        if len(held_out) >= MIN_TO_CHOOSE:
            with ending(finish):
                tune(index, label_n, held_out, patience=patience)
            return
        if len(held_out) and not self.is_trained_:
            start, rest = copy.deepcopy(self.module.state_dict()), np.setdiff1d(np.arange(len(index)), held_out)
            with ending(finish):
                tune(index[rest], label_n[rest], prefix="calibration_")
            self.module.load_state_dict(start | self.module.sureness())
            self.is_trained_ = False
        with ending(self._finish):
            tune(index, label_n)

    def _attach(self, adata: AnnData, *, min_coverage: float) -> None:
        super()._attach(adata, min_coverage=min_coverage)
        self._split = None

    def _kept_aside(self, label_n: np.ndarray, validation_size: float) -> np.ndarray:
        """The validation split, the same one as long as the cells and its size are: training goes on after training."""
        if self._split is None or self._split[0] != validation_size:
            self._split = validation_size, validation_cells(label_n, validation_size)
        return self._split[1]

    def _finish(
        self, index: np.ndarray | None = None, label_n: np.ndarray | None = None, refused_share: float = 0.0
    ) -> None:
        """Calibrate by cells that were not trained on, if there are, and find the cells' mean; also when interrupted."""
        if not self.is_trained_:
            return
        if index is not None and len(index):
            self.module.calibrate(temperature=1, threshold=0)
            logit_nk = torch.as_tensor(self._map_cells(self.module.logits, None, index))
            self.module.calibrate(*calibration(logit_nk, label_n, refused_share))
        total_d = torch.zeros_like(self.module.center_d, device="cpu")
        for minibatch in self._loader(self._own_cells()):
            with torch.no_grad():
                total_d += self.module.embed(minibatch).sum(dim=0).cpu()
        self.module.center_d.copy_(total_d / self._own_cells().n_cells)
