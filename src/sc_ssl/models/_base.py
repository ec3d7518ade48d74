"""The base of every model: training, embedding, saving, loading and queries by gene name."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, Self

from sc_ssl import _compat

from ._cells_model import CellsModel
from ._history import to_history, to_lists
from ._storage import read_config, read_tensors, write_model
from ._training import TrainingDefaults, check_options, fit
from ._unfinished import Unfinished

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import numpy as np
    from anndata import AnnData
    from lightning.pytorch import Callback
    from torch import Tensor

    from sc_ssl.data import Cells


class SSLModel(CellsModel):
    """A self-supervised model of single cells on scvi-tools.

    A subclass builds ``self.module`` from plain arguments, states its ``training`` defaults, and ends its constructor
    with ``self.init_params_ = self._get_init_params(locals())``. Models return arrays and never write results into an
    AnnData: :func:`sc_ssl.tl.embed` does.
    """

    training: TrainingDefaults
    #: a training that was interrupted and can be finished
    unfinished: Unfinished | None = None

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
        **trainer_kwargs: Any,
    ) -> None:
        """Train on the registered cells; a second call goes on from the first.

        Ctrl-C raises ``KeyboardInterrupt`` and leaves a model that is usable as it is. The same call once more, also
        after saving and loading, then finishes the training: it goes back by some seconds, to where an epoch started,
        and ends bit for bit (on the CPU) where it would have without the interruption.

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
            result, as another seed does. ``"auto"`` divides only when the device says that its memory is full, which a
            GPU does and a CPU seldom: there, give a number.
        validation_size
            Share of the cells held out, in [0, 1); 0.1 with early stopping, else 0.
        early_stopping
            Stop when ``validation_loss`` has not fallen for ``early_stopping_patience`` epochs (45).
        accelerator, devices
            Where to train; ``"auto"`` takes a GPU when there is one. One device only.
        plan_kwargs
            For :class:`~sc_ssl.train.SSLTrainingPlan`: ``lr``, ``weight_decay``, ``schedule``, ….
        callbacks
            Lightning callbacks.
        **trainer_kwargs
            For scvi-tools' ``Trainer``: ``enable_progress_bar``, ``early_stopping_patience``, ``precision``, ….
        """
        check_options(devices, max_epochs, batch_size)
        where: dict[str, Any] = {"accelerator": accelerator, "devices": devices}
        shown = {name: trainer_kwargs[name] for name in ("enable_progress_bar",) if name in trainer_kwargs}
        fit(
            self,
            self.module,
            self.training,
            cells=self._training_cells(max_epochs=max_epochs, **where, **shown),
            max_epochs=max_epochs,
            batch_size=batch_size,
            micro_batch_size=micro_batch_size,
            validation_size=validation_size,
            early_stopping=early_stopping,
            plan_kwargs=plan_kwargs,
            callbacks=callbacks,
            **where,
            **trainer_kwargs,
        )

    def get_latent_representation(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Embed cells, by default those of the model; rows come in the order asked for.

        Parameters
        ----------
        adata
            Any AnnData with the same layer and keys; it needs no setup and is not changed. Genes are matched by name:
            reordered where needed, at their mean where missing, with an error when under half are there.
        indices
            Positions or a boolean mask of cells; repeats are allowed.
        batch_size
            Cells a minibatch.

        Returns
        -------
        (n, n_latent), float32.
        """
        self._check_if_trained(warn=False)
        return self._map_cells(self.module.embed, adata, indices, batch_size)

    def save(self, dir_path: str | Path, overwrite: bool = False) -> None:
        """Write the model to a folder: tensors to ``model.safetensors``, all else to ``model.json``; no data.

        Of an interrupted training ``unfinished.pt`` keeps what :meth:`train` needs to finish it.
        """
        write_model(dir_path, self.configuration(), self.module.state_dict(), overwrite=overwrite)
        if self.unfinished is not None:
            self.unfinished.save(dir_path)

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
            (of what stands on an encoder, half), in any order. They need no setup and are not changed.
        accelerator, device
            Where to put the model.
        """
        config = read_config(dir_path)
        if config["class"] != cls.__name__:
            raise ValueError(f"{dir_path} holds a {config['class']}, not a {cls.__name__}; use {config['class']}.load.")
        model = cls.restored(config, read_tensors(dir_path))
        model.unfinished = Unfinished.load(dir_path)
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
            model = type(source)(None, registry=source.registry_, **source.plain_init_params())
            model.module.load_state_dict(source.module.state_dict())
            model.module.eval()
            model.training = source.training
            model.is_trained_, model.history_ = source.is_trained_, dict(source.history_ or {})
            model.to_device(source.device)
        else:
            model = cls.load(source)
        model._attach(adata, min_coverage=min_coverage)
        return model

    def _training_cells(self, **fit_options: Any) -> Cells:
        """What the method trains on; a method in phases runs the earlier ones here, with these options of `fit`."""
        return self._own_cells()

    def configuration(self) -> dict[str, Any]:
        """All of the model but its tensors, as plain data."""
        return {
            "class": type(self).__name__,
            "init_params": self.plain_init_params(),
            "registry": self.registry_,
            "training": asdict(self.training),
            "is_trained": self.is_trained_,
            "history": to_lists(self.history_),
        }

    @classmethod
    def restored(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """The model, without cells, of a configuration and tensors."""
        model = cls(None, registry=config["registry"], **config["init_params"])
        model.module.load_state_dict(tensors)
        model.module.eval()
        model.training = TrainingDefaults(**config["training"])
        model.is_trained_ = config["is_trained"]
        model.history_ = to_history(config["history"])
        return model

    def plain_init_params(self) -> dict[str, Any]:
        """The constructor's arguments as plain data, enough to build the same module again."""
        params = dict(self.init_params_["non_kwargs"])
        for keyword_arguments in self.init_params_["kwargs"].values():
            params |= keyword_arguments
        return params
