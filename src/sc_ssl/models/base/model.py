"""The base of every model: registering cells, training, embedding, saving, loading and queries by gene name."""

from __future__ import annotations

import inspect
import reprlib
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from scvi.data import AnnDataManager
from scvi.data.fields import CategoricalObsField, LayerField, NumericalObsField
from scvi.model.base import BaseModelClass

from sc_ssl import _compat
from sc_ssl._checks import check_finite
from sc_ssl._logging import logger
from sc_ssl._threads import own_threads
from sc_ssl.data import (
    MIN_COVERAGE,
    CellLoader,
    Cells,
    LightAnnData,
    batch_statistics,
    check_alike,
    check_anndata,
    check_batches,
    check_cells,
    check_writable,
    find_layer,
    gene_statistics,
    gene_weights,
    opened,
    positions,
    read_counts,
    warn_of_features,
    write_rows,
)
from sc_ssl.nn import LogNormalize
from sc_ssl.train import isolated

from .embedding_function import EmbeddingFunction
from .fit import CHECKPOINT_SECONDS, Fitted, Phase, TrainingDefaults, fit
from .options import check_precision, check_training
from .storage import damage_named, has_model, read_config, read_tensors, to_history, to_lists, write_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from anndata import AnnData
    from lightning.pytorch import Callback
    from torch import Tensor

    from .module import SSLModule


#: cells a minibatch where no gradient is kept
INFERENCE_BATCH_SIZE = 1024


_IS_NO_VAE = "it is no probabilistic model of expression; get_latent_representation gives the embedding"
_OWN_FORMAT = "models are saved as safetensors and JSON; sc_ssl.models.load reads them"
#: what scvi-tools' base class offers and these models cannot do → why
NOT_OFFERED = {
    "get_normalized_expression": _IS_NO_VAE,
    "get_normalized_function_name": _IS_NO_VAE,
    "differential_abundance": _IS_NO_VAE,
    "convert_legacy_save": _OWN_FORMAT,
    "load_registry": _OWN_FORMAT,
    "view_setup_args": _OWN_FORMAT,
}


class SSLModel(BaseModelClass):
    """A self-supervised model of single cells on scvi-tools.

    A subclass builds ``self.module`` from plain arguments, states its ``training`` defaults, and ends its constructor
    with ``self.init_params_ = self._get_init_params(locals())``. Models return arrays and never write results into an
    AnnData: :func:`sc_ssl.tl.embed` does.
    """

    module: SSLModule
    #: name of the method, its key in ``sc_ssl.models.METHODS``
    method: str = ""
    #: what ``setup_anndata`` takes as ``input``
    inputs: tuple[str, ...] = ("counts", "log1p")
    #: constructor arguments that may name a field of the cells → where that is looked for: ``"obs"``, ``"varm"``, ``"uns"``
    reads: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    #: cells without the column that names their batch are embedded too, as cells of a new batch
    takes_new_batches: bool = False
    #: smallest share of the model's genes that cells must have for it to be trained on them
    own_coverage: float = 1.0
    training: TrainingDefaults

    def __init__(self, adata: AnnData | None = None, registry: dict[str, Any] | None = None) -> None:
        super().__init__(adata, registry)
        self._cells = None if adata is None else self._read(adata).apart_from(adata)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Constructors build modules in single precision, and one at a time."""
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = isolated()(cls.__init__)

    def __repr__(self) -> str:
        """What the model is, of how many cells and genes, with which arguments, and how far it is trained."""
        losses = (self.history_ or {}).get("train_loss")
        trained = "not trained"
        if self.is_trained_:
            trained = "trained" if losses is None else f"{len(losses)} epochs, loss {losses.iloc[-1, 0]:.3g}"
        batch_key, n_batch = self.setup_arguments["batch_key"], self.summary_stats.n_batch
        batches = "" if batch_key is None else f" in {n_batch} batches of obs[{batch_key!r}]"
        cells = "none attached" if self._cells is None else f"{self.n_cells:,}{batches}"
        genes = ", ".join(map(repr, self.var_names[:3])) + (", …" if len(self.var_names) > 3 else "")
        n_parameters = sum(parameter.numel() for parameter in self.module.parameters())
        return "\n".join(
            [
                f"{type(self).__name__}({', '.join(self._own_arguments())})",
                f"    cells: {cells}, read as {self.setup_arguments['input']}",
                f"    genes: {len(self.var_names):,} ({genes})",
                f"    parameters: {n_parameters:,}",
                f"    training: {trained}",
            ]
        )

    def _own_arguments(self) -> Iterator[str]:
        """The constructor's arguments that are not at their defaults, shortened."""
        defaults = inspect.signature(type(self)).parameters
        for name, value in self.plain_init_params().items():
            if repr(value) != repr(defaults[name].default):
                yield f"{name}={value['class'] if isinstance(value, dict) and 'class' in value else reprlib.repr(value)}"

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in NOT_OFFERED]

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        *,
        layer: str | None = None,
        batch_key: str | None = None,
        library_size_key: str | None = None,
        input: Literal["counts", "log1p", "scaled"] = "counts",
        **kwargs: Any,
    ) -> None:
        """Register an AnnData: name its counts and keys, copy nothing.

        Parameters
        ----------
        adata
            Cells × genes, already restricted to the genes that the model should use (a given encoder has its own). Not a
            view.
        layer
            Layer of raw counts; ``None`` takes ``layers["counts"]`` if there, else ``X`` (which other ``input`` always
            takes). New cells are read from the layer that is registered here, else after the same rule.
        batch_key
            Column of ``obs`` with the batch: what sets like cells of different batches apart is taken off each gene, see
            :func:`~sc_ssl.data.batch_statistics`; batches may differ in composition.
        library_size_key
            Column of ``obs`` with each cell's library size (counts over all genes, > 0); ``None`` sums the genes here.
        input
            ``"log1p"`` when the matrix holds log-normalised values, for want of counts; ``"scaled"``, for models that
            predict from bulk expression too, when it holds z-scores or other values with negatives.

        Raises
        ------
        KeyError
            A layer or key that is not there.
        ValueError
            Not counts; NaN, infinite or negative values; duplicated gene names; fewer than two cells, in all or in a
            batch.
        """
        if opened(adata) is not adata:
            raise TypeError(
                f"an {type(adata).__name__} whose annotations are no data frame of its own cannot be registered: pass "
                "adata = sc_ssl.pp.open_cells(adata) here and to the model; the counts stay where they are."
            )
        check_cells(adata)
        layer = find_layer(adata, layer, input)  # so that the registry holds what is taken
        setup_method_args = cls._get_setup_method_args(**locals())
        if input not in cls.inputs:
            raise ValueError(
                f"input of a {cls.__name__} is one of {', '.join(map(repr, cls.inputs))}, found {input!r}."
            )
        read_counts(adata, layer, input, min_cells=2, takes=cls.inputs)
        if not isinstance(adata, LightAnnData):
            warn_of_features(adata)
        if batch_key is not None:
            check_batches(adata, batch_key)
            check_alike(adata, batch_key)
        manager = AnnDataManager(
            fields=[
                LayerField("X", layer, is_count_data=False, correct_data_format=False),
                CategoricalObsField("batch", batch_key),
                NumericalObsField("library_size", library_size_key, required=False),
            ],
            setup_method_args=setup_method_args,
        )
        manager.register_fields(adata, **kwargs)
        cls.register_manager(manager)

    @property
    def var_names(self) -> list[str]:
        """Names of the model's genes, in its order."""
        return _compat.registered_names(self._names_registry)

    @property
    def n_cells(self) -> int:
        """Number of the model's own cells."""
        return self._own_cells().n_cells

    @property
    def setup_arguments(self) -> dict[str, Any]:
        """The layer and keys under which the model's cells were registered."""
        return _compat.setup_arguments(self.registry_)

    @isolated()
    @own_threads()
    def train(
        self,
        max_epochs: int | None = None,
        *,
        batch_size: int | None = None,
        micro_batch_size: int | Literal["auto"] | None = None,
        validation_size: float | None = None,
        early_stopping: bool = False,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        plan_kwargs: dict[str, Any] | None = None,
        callbacks: Iterable[Callback] = (),
        checkpoint_dir: str | Path | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        **trainer_kwargs: Any,
    ) -> None:
        """Train on the registered cells; a second call goes on from the first.

        Ctrl-C raises ``KeyboardInterrupt`` and leaves a model that is usable as it is. With ``checkpoint_dir`` the same
        call once more, in the same process or in a new one, finishes a training that was interrupted by Ctrl-C, SIGTERM or
        ``kill -9``: it goes on from the last checkpoint and ends bit for bit (on the CPU) where it would have without the
        interruption.

        Parameters
        ----------
        max_epochs
            Times through the cells; by default the method's own, fewer above 20,000 cells.
        batch_size
            Cells a minibatch, at most all of them.
        micro_batch_size
            Cells whose graph is in memory at a time, for methods that compare the embeddings of all cells of a
            minibatch: the gradient is that of the whole, at a third more time
            (:class:`~sc_ssl.train.ChunkedContrastPlan`). Noise is drawn part by part, so that another size gives another
            result, as another seed does. ``"auto"`` divides only when the device reports that its memory is full, which a
            GPU does and a CPU seldom: there, give a number.
        validation_size
            Share of the cells held out, in [0, 1); 0.1 with early stopping, else 0.
        early_stopping
            Stop when ``validation_loss`` has not fallen for ``early_stopping_patience`` epochs, by default a quarter of
            ``max_epochs``, at most 45.
        accelerator, devices
            Where to train; ``"auto"`` takes a GPU when there is one. One device only.
        plan_kwargs
            For :class:`~sc_ssl.train.SSLTrainingPlan`: ``lr``, ``weight_decay``, ``schedule``, ….
        callbacks
            Lightning callbacks.
        checkpoint_dir
            Folder for checkpoints, which is made; :meth:`save` into the same folder replaces them by the finished model.
        checkpoint_seconds
            Shortest time between two checkpoints, which are written where an epoch ends, ≥ 0: what an interruption loses
            is at most this or one epoch, whichever is longer.
        **trainer_kwargs
            For scvi-tools' ``Trainer``: ``enable_progress_bar``, ``early_stopping_patience``, ``precision`` (``"32-true"``,
            ``"bf16-mixed"`` or, on a GPU, ``"16-mixed"``: weights stay in single precision), ….

        Raises
        ------
        FileExistsError
            ``checkpoint_dir`` holds a finished model.
        ValueError
            Settings out of range; checkpoints of another training in ``checkpoint_dir``.
        """
        given = {"max_epochs": max_epochs, "batch_size": batch_size, "validation_size": validation_size}
        given |= {"early_stopping": early_stopping, "devices": devices, "plan_kwargs": plan_kwargs}
        check_training(given | trainer_kwargs)
        check_precision(trainer_kwargs.get("precision"), self.module)
        max_epochs, batch_size = (None if n is None else int(n) for n in (max_epochs, batch_size))
        checkpoint_dir = None if checkpoint_dir is None else Path(checkpoint_dir).expanduser()
        if checkpoint_dir is not None and has_model(checkpoint_dir):
            raise FileExistsError(f"{checkpoint_dir} holds a finished model; take another folder for checkpoints.")
        everywhere: dict[str, Any] = {
            "accelerator": accelerator,
            "devices": devices,
            "checkpoint_dir": checkpoint_dir,
            "checkpoint_seconds": checkpoint_seconds,
            "restart": self.is_trained_,
            "name": self.method or type(self).__name__,
        }
        everywhere |= {
            name: trainer_kwargs.pop(name)
            for name in ("enable_progress_bar", "simple_progress_bar")
            if name in trainer_kwargs
        }
        options = {
            "batch_size": batch_size,
            "micro_batch_size": micro_batch_size,
            "validation_size": validation_size,
            "early_stopping": early_stopping,
            "plan_kwargs": plan_kwargs,
            "callbacks": callbacks,
            **trainer_kwargs,
        }
        with closing(self.phases(max_epochs)) as phases:  # its last words too when a phase is interrupted
            for phase in phases:
                fitted = fit(
                    phase, history=to_lists(self.history_), **everywhere, **(options if phase.takes_options else {})
                )
                self._take(phase, fitted)

    def phases(self, max_epochs: int | None = None) -> Iterator[Phase]:
        """What :meth:`train` runs, in order; what stands after a ``yield`` happens once that phase is trained."""
        yield Phase(self.module, self._own_cells(), self.training, max_epochs)

    def _take(self, phase: Phase, fitted: Fitted) -> None:
        """Write what happened in a phase into the model; its error, or its interruption, is raised here."""
        self.to_device(fitted.device)
        self.module.eval()
        self.history_ = to_history(fitted.history)
        self.trainer = fitted.trainer
        self.train_indices, self.validation_indices = fitted.train_idx, fitted.val_idx
        # an earlier phase trains a part of the model, which embeds nothing yet; after an error nothing is trained
        usable = fitted.error is None or (fitted.interrupted and fitted.n_epochs > 0)
        self.is_trained_ = self.is_trained_ or (usable and phase.module is self.module)
        if fitted.interrupted:
            logger.warning(
                "Training was interrupted after %d epochs; the model is %s.",
                fitted.n_epochs,
                "usable as it is" if self.is_trained_ else "not usable yet",
            )
        if fitted.error is not None:
            raise fitted.error

    def get_latent_representation(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        batch_size: int | None = None,
        *,
        out: str | Path | Any = None,
    ) -> np.ndarray:
        """Embed cells, by default those of the model; rows come in the order asked for.

        Parameters
        ----------
        adata
            Any AnnData with the same keys, and its counts in the registered layer, else in ``layers["counts"]``, else in
            ``X``; it needs no setup and is not changed. Genes are matched by name: reordered where needed, at their mean
            where missing, with an error when under half are there.
        indices
            Positions or a boolean mask of cells; repeats are allowed.
        batch_size
            Cells a minibatch.
        out
            Where the embedding is written a chunk at a time when it is large too: the path of a zarr array, which is made;
            or an array (n, n_latent) of h5py, zarr or NumPy.

        Returns
        -------
        (n, n_latent), float32; with ``out``, the array on disk.
        """
        self._check_if_trained(warn=False)
        return self._map_cells(self.module.embed, adata, indices, batch_size, out=out)

    def embedding_function(self) -> EmbeddingFunction:
        """The trained embedding as a differentiable function of normalised expression, for attribution by any package.

        See :func:`sc_ssl.tl.explain`, which asks it which genes make a group of cells.
        """
        self._check_if_trained(warn=False)

        def minibatches(adata: AnnData | None, indices: Sequence[int] | np.ndarray | None) -> CellLoader:
            cells = self._own_cells() if adata is None else self._read(adata, MIN_COVERAGE)
            return self._loader(cells, positions(cells.n_cells, indices))

        return EmbeddingFunction(self.module, self.var_names, minibatches)

    def save(self, dir_path: str | Path, overwrite: bool = False) -> None:
        """Write the model to a folder: tensors to ``model.safetensors``, all else to ``model.json``; no data.

        Checkpoints of its training in the folder are removed: it has ended.
        """
        write_model(dir_path, self.configuration(), self.module.state_dict(), overwrite=overwrite)

    @classmethod
    def load(
        cls, dir_path: str | Path, adata: AnnData | None = None, accelerator: str = "auto", device: int | str = "auto"
    ) -> Self:
        """Load a model that :meth:`save` wrote. Nothing in the folder is executed.

        Parameters
        ----------
        dir_path
            The folder.
        adata
            Cells to attach, for embedding without arguments or for further training; they need all the model's genes
            (models on an encoder: half), in any order. They need no setup and are not changed.
        accelerator, device
            Where to put the model.
        """
        config = read_config(dir_path)
        if config["class"] != cls.__name__:
            raise ValueError(f"{dir_path} holds a {config['class']}, not a {cls.__name__}; use {config['class']}.load.")
        tensors = read_tensors(dir_path, config.get("id"))
        with damage_named(dir_path, config.get("version", "")):
            model = restored(config, tensors)
        model.to_device(_compat.torch_device(accelerator, device))
        if adata is not None:
            model._attach(adata, min_coverage=cls.own_coverage)
        return model

    @classmethod
    def load_query(cls, source: str | Path | Self, adata: AnnData, *, min_coverage: float = 0.5) -> Self:
        """A trained model on new cells, to embed or to train further; genes are matched by name.

        Parameters
        ----------
        source
            A saved model's folder, or a trained model (which stays as it is).
        adata
            New cells. They need no setup and are not changed.
        min_coverage
            Smallest share of the model's genes that the new cells must have, in (0, 1]; genes that are missing take
            their mean and are named in the log.
        """
        if isinstance(source, SSLModel):
            model = restored(source.configuration(), source.module.state_dict())
            model.to_device(source.device)
        else:
            model = cls.load(source)
        model._attach(adata, min_coverage=min_coverage)
        return model

    def specification(self) -> dict[str, Any]:
        """What :func:`rebuilt` needs to build an equal model without cells: class, registry and constructor arguments."""
        return {"class": type(self).__name__, "registry": self.registry_, "init_params": self.plain_init_params()}

    def configuration(self) -> dict[str, Any]:
        """All of the model but its tensors, as plain data."""
        return self.specification() | {
            "training": asdict(self.training),
            "is_trained": self.is_trained_,
            "history": to_lists(self.history_),
        }

    def plain_init_params(self) -> dict[str, Any]:
        """The constructor's arguments as plain data, enough to build the same module again."""
        params = dict(self.init_params_["non_kwargs"])
        for keyword_arguments in self.init_params_["kwargs"].values():
            params |= keyword_arguments
        return params

    @property
    def _names_registry(self) -> dict[str, Any]:
        """Where the names of the genes, of the batches and of the columns of batches and library sizes stand."""
        return self.registry_

    def _read(self, adata: AnnData, min_coverage: float = 1.0) -> Cells:
        """Read cells for this model, matching genes and batches by name."""
        setup, named = self.setup_arguments, _compat.setup_arguments(self._names_registry)
        batch_key = named["batch_key"]
        adata = opened(adata)
        check_anndata(adata)
        unnamed = self.takes_new_batches and batch_key not in (None, *adata.obs)
        cells = Cells.from_anndata(
            adata,
            self.var_names,
            layer=setup["layer"],
            input=setup["input"],
            batch_key=None if unnamed else batch_key,
            batches=_compat.registered_batches(self._names_registry),
            library_size_key=setup["library_size_key"] or named["library_size_key"],
            min_coverage=min_coverage,
        )
        return replace(cells, batch=np.full(cells.n_cells, -1)) if unnamed else cells

    def _attach(self, adata: AnnData, *, min_coverage: float) -> None:
        self._cells = self._read(adata, min_coverage).apart_from(adata)
        self._adata = adata

    def _own_cells(self) -> Cells:
        if self._cells is None:
            raise ValueError("the model was loaded without cells; pass adata, here or to load().")
        return self._cells

    @own_threads()
    def _normalizer(self, *, weigh_genes: bool = True, by_batch: bool = True) -> LogNormalize:
        """The normalisation of this model's cells; without cells its statistics come with the saved tensors.

        Genes can be weighed only by their counts: other input is z-scored and no more. Without ``by_batch`` the cells of all
        batches are z-scored alike, for a model that learns to correct what differs between them.
        """
        log_input = self.setup_arguments["input"] != "counts"
        n_batch = self.summary_stats.n_batch
        normalize = LogNormalize(len(self.var_names), n_batch, log_input=log_input)
        if self._cells is not None:
            options = {"n_batch": n_batch, "log_input": log_input}
            if by_batch:
                batches = _compat.registered_batches(self._names_registry)
                target_sum, mean_bg, sd_bg = batch_statistics(self._cells, names=batches, **options)
            else:
                target_sum, mean_bg, sd_bg = gene_statistics(self._cells, **options)
            if not by_batch:
                mean_bg[1:], sd_bg[1:] = mean_bg[0], sd_bg[0]
            weight_g = torch.as_tensor(gene_weights(self._cells)) if weigh_genes and not log_input else None
            normalize.set_statistics(target_sum, torch.as_tensor(mean_bg), torch.as_tensor(sd_bg), weight_g)
        return normalize

    @isolated()
    @own_threads()
    @torch.inference_mode()
    def _map_cells(
        self,
        function: Callable[[Mapping[str, Tensor]], Tensor],
        adata: AnnData | None,
        indices: Sequence[int] | np.ndarray | None,
        batch_size: int | None = None,
        *,
        finite: bool = True,
        out: str | Path | Any = None,
    ) -> np.ndarray:
        """Apply a function of a minibatch to cells in order; float32, an error unless finite (in training: as it is).

        In memory, or written to ``out``.
        """
        if isinstance(out, str | Path):
            out = check_writable(out)
        cells = self._own_cells() if adata is None else self._read(opened(adata), MIN_COVERAGE)
        index = positions(cells.n_cells, indices)
        # of no cells one is taken and left out again, for the shape
        loader = self._loader(cells, index if len(index) else np.zeros(1, int), batch_size)
        training = self.module.training
        self.module.eval()
        checked = partial(check_finite, what=f"what the {type(self).__name__} computes of cells")
        results = (function(minibatch).float().cpu().numpy()[: len(index)] for minibatch in loader)
        try:
            if out is not None:  # a chunk at a time, checked before it is written
                return write_rows(map(_tapped(checked), results), len(index), out)
            found = np.concatenate(list(results))
        finally:
            self.module.train(training)
        if finite:
            checked(found)
        return found

    def _loader(self, cells: Cells, index: np.ndarray | None = None, batch_size: int | None = None) -> CellLoader:
        """Minibatches in order, on the model's device."""
        index = np.arange(cells.n_cells) if index is None else index
        return CellLoader(cells, index, batch_size or INFERENCE_BATCH_SIZE, device=self.device)


def _tapped(look: Callable[[np.ndarray], None]) -> Callable[[np.ndarray], np.ndarray]:
    """What hands values on after a look at them."""

    def hand_on(values: np.ndarray) -> np.ndarray:
        look(values)
        return values

    return hand_on


class _NotOffered:
    """A method of scvi-tools that these models do not have."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason

    def __get__(self, model: SSLModel | None, owner: type[SSLModel]) -> Any:
        raise AttributeError(f"{owner.__name__} has no {self.name}: {self.reason}.")


for _name, _reason in NOT_OFFERED.items():
    setattr(SSLModel, _name, _NotOffered(_name, _reason))


def class_named(name: str) -> type[SSLModel]:
    """The model class of this name: one of this package, or a subclass of :class:`SSLModel` that has been imported."""
    todo, found = [SSLModel], {}
    while todo:
        found |= {c.__name__: c for c in todo}
        todo = [sub for c in todo for sub in c.__subclasses__()]
    if name not in found or name == "SSLModel":
        known = ", ".join(sorted(found.keys() - {"SSLModel"}))
        raise ValueError(f"this version has no model class {name!r}; it has {known}.")
    return found[name]


def rebuilt(specification: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None) -> SSLModel:
    """An equal model without cells, in eval mode; with random weights where no tensors are given."""
    model_class = class_named(specification["class"])
    unknown = sorted(specification["init_params"].keys() - inspect.signature(model_class).parameters.keys())
    if unknown:
        raise ValueError(f"a {model_class.__name__} of this version has no option {unknown[0]!r}")
    model = model_class(None, registry=specification["registry"], **specification["init_params"])
    if tensors is not None:
        model.module.load_state_dict(tensors)
    model.module.eval()
    return model


def restored(configuration: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> SSLModel:
    """The model of :meth:`SSLModel.configuration` and its tensors, as trained as it was."""
    model = rebuilt(configuration, tensors)
    model.training = TrainingDefaults(**configuration["training"])
    model.is_trained_ = configuration["is_trained"]
    model.history_ = to_history(configuration["history"])
    return model
