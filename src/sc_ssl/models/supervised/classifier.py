"""Cell types from a pretrained encoder: a probe on the frozen encoder, and from there the whole network."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
import torch

from sc_ssl import _compat
from sc_ssl._checks import check_choice
from sc_ssl._logging import logger
from sc_ssl._threads import own_threads
from sc_ssl.data import find_layer, gene_names, locate_genes, positions
from sc_ssl.models.base import Phase, SSLModel, TrainingDefaults, class_named, read_config
from sc_ssl.train import isolated

from .encoder import OnEncoder, latent_width, warn_untrained
from .fine_tune import MIN_TO_CHOOSE, Adapt, BestMacroF1, Recipe, adapted, validation_cells
from .head import CellClassifierModule, ClassWeight, Head, calibration, gene_slot
from .labels import labelled_cells, lone_types, read_types, type_codes, type_names
from .new_genes import with_new_genes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from anndata import AnnData

    from sc_ssl.data import Cells


class CellClassifier(OnEncoder):
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
        The registry of the pretrained model, with the classifier's genes and layer.
    encoder
        Specification of the pretrained model: class, registry, constructor arguments.
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

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> sc_ssl.models.MaskedAutoencoder.setup_anndata(adata)
    >>> model = sc_ssl.models.MaskedAutoencoder(adata)
    >>> model.train()
    >>> classifier = sc_ssl.models.CellClassifier.from_pretrained(model, adata, labels_key="cell_type")
    >>> classifier.train()
    >>> classifier.predict(adata[:3].copy()).shape
    (3,)
    """

    training = TrainingDefaults(max_epochs=100, batch_size=128, plan={"weight_decay": 1e-2, "schedule": "constant"})
    module: CellClassifierModule
    #: code of each own cell's type, −1 where there is none
    _label_n: np.ndarray | None = None
    #: the share of the labelled cells held out, and their positions among these
    _split: tuple[float, np.ndarray] | None = None
    #: of the run that :meth:`train` is at
    _recipe: Recipe

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        encoder: dict[str, Any],
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
        check_choice("reads", reads, ("embedding", "gene_slots"))
        self.classes, self.labels_key, self.unlabeled_category = list(classes), labels_key, unlabeled_category
        source, slot = self._copied(encoder), None
        width = latent_width(source)
        if reads == "gene_slots":
            slot, width = gene_slot(source), len(self.var_names) + 1
        head = Head(width, n_hidden, len(self.classes), dropout_rate=dropout_rate)
        self.module = CellClassifierModule(encoder=source, slot=slot, head=head)
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
        check_choice("extra_genes", extra_genes, ("drop", "append"))
        if not 0 < min_coverage <= 1:
            raise ValueError(f"min_coverage is a share of the model's genes, in (0, 1], found {min_coverage}.")
        if extra_genes == "append" and isinstance(source, OnEncoder):
            raise ValueError(f"no genes can be appended to a {type(source).__name__}; take extra_genes='drop'.")
        warn_untrained(source)
        classes = cls.check_labels(adata, labels_key, unlabeled_category)
        if lone := lone_types(read_types(adata, labels_key, unlabeled_category)):
            logger.warning("Types of one cell are learnt from that cell alone: %s.", ", ".join(lone))
        known = source.var_names
        genes = known + _others(adata, known) if extra_genes == "append" else known
        layer = find_layer(adata, layer)
        registry = _compat.registry_for(source.registry_, genes, layer=layer)
        classifier = cls(
            None,
            registry,
            encoder=source.specification() | {"registry": registry},
            classes=classes,
            labels_key=labels_key,
            unlabeled_category=unlabeled_category,
            **head_kwargs,
        )
        classifier._attach(adata, min_coverage=min_coverage * len(known) / len(genes))
        encoder, cells = classifier.module.encoder, classifier._own_cells()
        encoder.load_state_dict(with_new_genes(source, encoder, cells))
        classifier.module.eval()
        classifier.to_device(source.device)
        return classifier

    @staticmethod
    def check_labels(adata: AnnData, labels_key: str, unlabeled_category: str = "Unknown") -> list[str]:
        """The cell types that a classifier would learn from a column of ``obs``, in the order of its probabilities.

        Parameters
        ----------
        adata
            Cells.
        labels_key
            Column of ``obs`` with the types; missing values are cells without.
        unlabeled_category
            The value of cells without a type.

        Raises
        ------
        KeyError
            No such column.
        ValueError
            Under two types, or a column in which most cells have a value of their own.
        """
        return type_names(read_types(adata, labels_key, unlabeled_category), labels_key)

    def get_latent_representation(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        batch_size: int | None = None,
        *,
        out: str | Path | Any = None,
    ) -> np.ndarray:
        """What the head reads of cells, before or after fine-tuning; as of the other models."""
        return self._map_cells(self.module.embed, adata, indices, batch_size, out=out)

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
            What a cell is called that has no counts, or whose most probable type is less probable than the threshold that
            training chose, with ``True`` the ``unlabeled_category``; ``None`` or ``False`` name a type for every cell.
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
            found = torch.as_tensor(self._map_cells(_and_whether_empty(self.module.embed), adata, indices))
            z_nd, empty_n = found[:, :-1].to(self.device), found[:, -1].numpy() > 0
            proba_nk = self.module.proba_at(z_nd - z_nd.mean(dim=0) + self.module.center_d).numpy(force=True)
        else:
            found = self._map_cells(_and_whether_empty(self.module.proba), adata, indices)
            proba_nk, empty_n = found[:, :-1], found[:, -1] > 0
        proba_nk[empty_n] = 1 / len(self.classes)  # a cell of which nothing is known
        top_n = proba_nk.max(axis=1)
        name_n = np.asarray(self.classes, dtype=object)[proba_nk.argmax(axis=1)]
        if unknown:
            name_n[empty_n | (top_n < float(self.module.threshold))] = (
                self.unlabeled_category if unknown is True else unknown
            )
        names = (self._adata if adata is None else adata).obs_names
        index = names[positions(len(names), indices)]
        found = pd.DataFrame(proba_nk, index=index, columns=self.classes) if soft else name_n
        return (found, 1 - top_n) if return_uncertainty else found

    @isolated()
    @own_threads()
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
            ``batch_size``, ``accelerator``, ``enable_progress_bar``, …. With ``checkpoint_dir`` an interrupted training is
            finished by the same call on a classifier that was made with the same seed.
        """
        if "early_stopping" in fit_options:
            raise TypeError("a CellClassifier stops by macro F1 after patience= epochs; leave early_stopping out.")
        recipe = Recipe(
            freeze_encoder=freeze_encoder,
            head_epochs=freeze_encoder_epochs,
            lr_head=lr_head,
            lr_encoder=lr_encoder,
            adapt=adapt,
            class_weight=class_weight,
            patience=patience,
            refused_share=refused_share,
        )
        recipe.check(self.module.encoder)
        fit_options["callbacks"] = list(fit_options.get("callbacks", ()))  # each stage reads them
        known_m = self._labelled()
        held_m = self._held_out(known_m, validation_size)
        rest_m = np.setdiff1d(known_m, held_m)
        if len(held_m) >= MIN_TO_CHOOSE:
            self._run(recipe.on(rest_m, held_m, chooses=True), max_epochs, fit_options)
            return
        if not len(held_m):
            logger.warning(
                "%d labelled cells are too few to keep some aside: probabilities are not calibrated, and no cell is called "
                "unknown.",
                len(known_m),
            )
        elif not self.is_trained_:
            # too few to choose a state by: they calibrate one that has not seen them, and are then trained on with the rest
            start = copy.deepcopy(self.module.state_dict())
            self._run(recipe.on(rest_m, held_m, prefix="calibration_"), max_epochs, fit_options)
            self.module.load_state_dict(start | self.module.sureness())
            self.is_trained_ = False
        self._run(recipe.on(known_m), max_epochs, fit_options)

    def phases(self, max_epochs: int | None = None) -> Iterator[Phase]:
        """From a logistic regression on the frozen encoder: the head alone, then the whole network, after the recipe."""
        recipe, module = self._recipe, self.module
        index_m = np.union1d(recipe.train_m, recipe.held_m) if recipe.chooses else recipe.train_m
        cells, label_m = self._own_cells().take(index_m), self._label_n[index_m]
        held_out = np.isin(index_m, recipe.held_m)
        n_k = np.bincount(label_m[~held_out], minlength=len(self.classes))
        module.head.weigh_classes(torch.as_tensor(n_k), recipe.class_weight)

        # the head starts as the logistic regression, unless training goes on
        head_epochs = recipe.head_epochs
        if head_epochs is None:
            head_epochs = max_epochs if recipe.freeze_encoder and recipe.chooses else 0
        probe_only = recipe.freeze_encoder and head_epochs == 0
        from_probe = probe_only or not self.is_trained_
        z_md = self._map_cells(module.embed, None, index_m) if from_probe or head_epochs != 0 else None
        if from_probe:
            module.head.start_from_probe(torch.as_tensor(z_md[~held_out]), label_m[~held_out])
            self.is_trained_ = True  # already usable, should the rest be interrupted

        if head_epochs != 0:
            embedded = cells.beside(label=label_m, embedding=z_md)
            yield self._phase(module.head, embedded, held_out, "head_", head_epochs, {"lr": recipe.lr_head})
        if not recipe.freeze_encoder:
            rates = {"lr": recipe.lr_head, "lr_factor": {"encoder.": recipe.lr_encoder / recipe.lr_head}}
            with adapted(module.encoder, recipe.adapt):
                yield self._phase(module, cells.beside(label=label_m), held_out, "", max_epochs, rates)

    def _phase(
        self,
        module: Head | CellClassifierModule,
        cells: Cells,
        held_out: np.ndarray,
        prefix: str,
        max_epochs: int | None,
        plan: dict[str, Any],
    ) -> Phase:
        """One stage of training, at whose end the state that is best on the cells held out is back, if there are any."""
        index, prefix = np.flatnonzero(held_out), self._recipe.prefix + prefix
        held = cells.take(index).beside(**{name: values[index] for name, values in cells.extra.items()})
        best = [BestMacroF1(module, held, patience=self._recipe.patience, prefix=prefix)] if len(index) else []
        return Phase(module, cells, self.training, max_epochs, prefix, callbacks=best, val_idx=index, plan=plan)

    def _run(self, recipe: Recipe, max_epochs: int | None, fit_options: dict[str, Any]) -> None:
        """Train by a recipe; calibrated and usable afterwards, also when it is interrupted."""
        self._recipe, was_trained = recipe, self.is_trained_
        try:
            super().train(max_epochs, **fit_options)
        except (KeyboardInterrupt, SystemExit):
            self._finish()
            raise
        except Exception:
            self.is_trained_ = was_trained
            raise
        self._finish()

    def _finish(self) -> None:
        """Calibrate by the cells that were not trained on, if there are any, and find the mean embedding of all."""
        if not self.is_trained_:  # interrupted before there was a probe
            return
        held_m = self._recipe.held_m
        if len(held_m):
            self.module.calibrate(temperature=1, threshold=0)
            logit_mk = torch.as_tensor(self._map_cells(self.module.logits, None, held_m))
            self.module.calibrate(*calibration(logit_mk, self._label_n[held_m], self._recipe.refused_share))
        total_d = torch.zeros_like(self.module.center_d, device="cpu")
        for minibatch in self._loader(self._own_cells()):
            with torch.no_grad():
                total_d += self.module.embed(minibatch).sum(dim=0).cpu()
        self.module.center_d.copy_(total_d / self._own_cells().n_cells)

    def _labelled(self) -> np.ndarray:
        """Positions of the cells with a known type, (m,)."""
        self._own_cells()  # its error comes first
        return labelled_cells(self._label_n, self.labels_key, self.classes)

    def _held_out(self, known_m: np.ndarray, validation_size: float) -> np.ndarray:
        """Those of the labelled cells in the validation split, which stays the same when training goes on."""
        if self._split is None or self._split[0] != validation_size:
            self._split = validation_size, validation_cells(self._label_n[known_m], validation_size)
        return known_m[self._split[1]]

    def _attach(self, adata: AnnData, *, min_coverage: float) -> None:
        super()._attach(adata, min_coverage=min_coverage)
        self._label_n = type_codes(adata, self.labels_key, self.unlabeled_category, self.classes)
        self._split = None


def _and_whether_empty(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The function with a column beside it, 1 for cells in which none of the genes is expressed."""
    return lambda cells: torch.cat([function(cells), 1 - (cells["X"] != 0).any(dim=1, keepdim=True).float()], dim=1)


def _others(adata: AnnData, known: list[str]) -> list[str]:
    """Genes of the cells that are not among these."""
    names = gene_names(adata.var_names)
    return list(names[locate_genes(pd.Index(known), names) < 0])
