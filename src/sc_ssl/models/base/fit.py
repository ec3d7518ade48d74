"""Training one module of a model, once or phase by phase."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal

import torch

from sc_ssl import _compat
from sc_ssl._logging import logger
from sc_ssl.data import CellDataModule, CellLoader, Cells
from sc_ssl.train import ChunkedContrastPlan, SSLTrainingPlan

from .checkpoint import Unfinished, join, to_history, to_lists
from .module import ContrastModule

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from lightning.pytorch import Callback
    from scvi.train import TrainRunner

    from .model import SSLModel
    from .module import SSLModule


@dataclass(frozen=True)
class TrainingDefaults:
    """How a method trains when nothing is said: epochs for up to ``full_cells`` cells, fewer in proportion above."""

    max_epochs: int
    batch_size: int
    plan: dict[str, Any] = field(default_factory=dict)
    gradient_clip_val: float | None = None
    min_steps: int = 0
    full_cells: int = 20_000
    micro_batch_size: int | Literal["auto"] | None = None

    def epochs(self, n_cells: int, batch_size: int) -> int:
        """Number of epochs: no more steps than at ``full_cells``, no fewer than ``min_steps``."""
        steps_per_epoch = max(n_cells // batch_size, 1)
        wanted = min(self.max_epochs, round(self.max_epochs * self.full_cells / n_cells))
        return max(wanted, -(-self.min_steps // steps_per_epoch), 1)


def fit(
    model: SSLModel,
    module: SSLModule,
    defaults: TrainingDefaults,
    *,
    cells: Cells,
    max_epochs: int | None = None,
    batch_size: int | None = None,
    micro_batch_size: int | Literal["auto"] | None = None,
    validation_size: float | None = None,
    early_stopping: bool = False,
    accelerator: str = "auto",
    devices: int | list[int] | str = "auto",
    plan_kwargs: dict[str, Any] | None = None,
    callbacks: Iterable[Callback] = (),
    prefix: str = "",
    val_idx: np.ndarray | None = None,
    resumable: bool = True,
    **trainer_kwargs: Any,
) -> None:
    """Train a module on the model's cells; a model in phases calls it once a phase.

    An interrupted training that was asked for in the same words is finished instead, unless it is not ``resumable``.
    The cells held out are drawn, or those at the positions ``val_idx``.
    """
    check_options(devices, max_epochs, batch_size)
    batch_size = defaults.batch_size if batch_size is None else batch_size
    micro_batch_size = defaults.micro_batch_size if micro_batch_size is None else micro_batch_size
    _check_micro_batch(module, micro_batch_size, batch_size)
    if validation_size is None:
        validation_size = 0.1 if early_stopping else 0.0
    plan_options = defaults.plan | (plan_kwargs or {})
    asked = {"prefix": prefix, "n_cells": cells.n_cells, "max_epochs": max_epochs, "batch_size": batch_size}
    asked |= {"validation_size": validation_size, "early_stopping": early_stopping, "plan": plan_options}
    asked |= {"micro_batch_size": micro_batch_size}
    unfinished = model.unfinished if model.unfinished is not None and model.unfinished.is_what_was(asked) else None
    datamodule = CellDataModule(
        cells,
        batch_size,
        validation_size=validation_size,
        normalize=module.normalize,
        val_idx=unfinished.held_out.numpy() if unfinished else val_idx,
    )
    if early_stopping:
        trainer_kwargs = {"early_stopping_monitor": f"{prefix}validation_loss"} | trainer_kwargs
    if datamodule.n_val:
        trainer_kwargs = {"check_val_every_n_epoch": 1} | trainer_kwargs
    clip = trainer_kwargs.pop("gradient_clip_val", defaults.gradient_clip_val)
    plan_options = plan_options | {"prefix": prefix, "resume": unfinished.snapshot if unfinished else None}
    plan: SSLTrainingPlan
    if micro_batch_size is None:
        plan = SSLTrainingPlan(module, **plan_options)
        trainer_kwargs["gradient_clip_val"] = clip
    else:  # optimises by itself, so that the trainer must not clip
        plan = ChunkedContrastPlan(module, micro_batch_size=micro_batch_size, gradient_clip_val=clip, **plan_options)
    max_epochs = max_epochs or defaults.epochs(datamodule.n_train, datamodule.batch_size)
    runner = _compat.train_runner(
        model,
        training_plan=plan,
        data_splitter=datamodule,
        max_epochs=max_epochs - (unfinished.n_epochs if unfinished else 0),
        accelerator=accelerator,
        devices=devices,
        early_stopping=early_stopping,
        callbacks=list(callbacks),
        **{"benchmark": False, "log_every_n_steps": 1} | trainer_kwargs,
    )
    if unfinished:
        logger.info(
            "Going on with the training that was interrupted, at epoch %d of %d.", unfinished.n_epochs + 1, max_epochs
        )
        unfinished.restore(model, module)
    _run(model, module, runner, datamodule, asked if resumable else None)


def check_options(devices: Any = "auto", max_epochs: int | None = None, batch_size: int | None = None) -> None:
    """An error for a number of epochs or cells that no training has."""
    if devices not in ("auto", 1, "1") and not (isinstance(devices, list) and len(devices) == 1):
        raise ValueError(f"training runs on one device, found devices={devices!r}; pass 1 or a list of one.")
    if (max_epochs is not None and max_epochs < 1) or (batch_size is not None and batch_size < 2):
        raise ValueError(f"max_epochs is at least 1 and batch_size 2, found {max_epochs} and {batch_size}.")


def _check_micro_batch(module: SSLModule, micro_batch_size: int | str | None, batch_size: int) -> None:
    if micro_batch_size is None:
        return
    if not isinstance(module, ContrastModule):
        raise ValueError(
            f"micro_batch_size divides the minibatches of methods that compare embeddings of views; "
            f"{type(module).__name__.removesuffix('Module')} does not. Leave it out."
        )
    whole = isinstance(micro_batch_size, Integral) and 1 <= micro_batch_size <= batch_size
    if micro_batch_size != "auto" and not whole:
        raise ValueError(
            f"micro_batch_size is 'auto' or a whole number between 1 and batch_size, found {micro_batch_size!r} and "
            f"{batch_size}."
        )


def _run(
    model: SSLModel, module: SSLModule, runner: TrainRunner, datamodule: CellDataModule, asked: dict[str, Any] | None
) -> None:
    """Train, and leave the model in order however that ends."""
    earlier, was_trained = to_lists(model.history_), model.is_trained_
    model.is_trained_, model.unfinished = False, None  # the runner then leaves the joining of histories to us
    finished = None
    try:
        finished = _compat.run(runner)
    finally:
        later, plan = to_lists(model.history_), runner.training_plan
        model.history_ = to_history(join(earlier, later))
        if not finished:  # lightning has moved the module, and only it, back to the CPU
            model.to_device("cpu")
            if plan.snapshot is not None and asked is not None:
                model.unfinished = Unfinished.of(plan, datamodule, asked, earlier, later)
        with torch.no_grad():
            module.after_fit(
                CellLoader(datamodule.cells, datamodule.train_idx, datamodule.batch_size, device=model.device)
            )
        model.module.eval()
        # an earlier phase trains a part of the model, which embeds nothing yet; after an error nothing is trained
        usable = finished or (finished is not None and plan.n_epochs > 0)
        model.is_trained_ = was_trained or (module is model.module and usable)
    if not finished:
        logger.warning(
            "Training was interrupted after %d epochs; the model is %s, and train() %s.",
            plan.n_epochs,
            "usable as it is" if model.is_trained_ else "not usable yet",
            f"with the same arguments goes on at epoch {plan.snapshot['n_epochs'] + 1}"
            if model.unfinished is not None
            else "trains on from its best or last state",
        )
        raise KeyboardInterrupt
