"""Training one module on some cells: a phase of a model's training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning.pytorch.callbacks import ProgressBar

from sc_ssl import _compat
from sc_ssl.data import CellDataModule, CellLoader, Cells
from sc_ssl.train import ChunkedContrastPlan, EpochProgress, SSLTrainingPlan

from .checkpoint import PhaseCheckpoint, SafeCheckpointIO, curves, join
from .module import ContrastModule, SSLModule

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy as np
    from lightning.pytorch import Callback
    from scvi.train import Trainer

#: shortest time in seconds between two checkpoints
CHECKPOINT_SECONDS = 30.0
#: early stopping waits for this share of the epochs, and at most for so many, where the user does not say
PATIENCE, MAX_PATIENCE = 0.25, 45


@dataclass(frozen=True)
class TrainingDefaults:
    """A method's own settings of training: epochs for up to ``full_cells`` cells, fewer in proportion above."""

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


@dataclass(frozen=True, eq=False)
class Phase:
    """One training run: which module, on which cells, with which defaults.

    Most models have one phase; MaskSC may train a teacher first, ScDeepCluster trains its autoencoder.

    Attributes
    ----------
    module
        What is trained: the model's module or a part of it.
    cells
        What it is trained on.
    defaults
        Settings where the user gives none.
    max_epochs
        Epochs; by default those of ``defaults``.
    prefix
        Put before the names of the phase's curves in the history; also the name of its checkpoint.
    callbacks
        Lightning callbacks of the method.
    val_idx
        Positions of the cells held out; by default drawn, as many as the user asks for.
    plan
        Settings of the training plan beside those of ``defaults``.
    takes_options
        Whether the batch size, callbacks, … that the user passes to ``train`` are for this phase, or only where to train.
    """

    module: SSLModule
    cells: Cells
    defaults: TrainingDefaults
    max_epochs: int | None = None
    prefix: str = ""
    callbacks: Sequence[Callback] = ()
    val_idx: np.ndarray | None = None
    plan: Mapping[str, Any] = field(default_factory=dict)
    takes_options: bool = True

    @property
    def name(self) -> str:
        """Of its checkpoint."""
        return self.prefix.rstrip("_") or "model"


@dataclass(frozen=True, eq=False)
class Fitted:
    """What happened in a phase.

    Attributes
    ----------
    history
        The curves of the model, those of this phase at their end.
    n_epochs
        Epochs of this run that are complete.
    error
        What ended it before its time: ``KeyboardInterrupt``, ``SystemExit`` or an error; ``None`` when it is finished.
    device
        Where it was trained.
    trainer
        scvi-tools' trainer; ``None`` when the phase had ended in an earlier process.
    train_idx, val_idx
        Positions of the cells trained on and held out.
    """

    history: dict[str, list[float]]
    n_epochs: int
    error: BaseException | None
    device: torch.device
    trainer: Trainer | None = None
    train_idx: np.ndarray | None = None
    val_idx: np.ndarray | None = None

    @property
    def interrupted(self) -> bool:
        """By the user or the system, not by an error."""
        return isinstance(self.error, KeyboardInterrupt | SystemExit)


def fit(
    phase: Phase,
    *,
    history: dict[str, list[float]],
    name: str,
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
    restart: bool = False,
    **trainer_kwargs: Any,
) -> Fitted:
    """Train the module of a phase, from its checkpoint on where there is one, and report what happened.

    ``history`` has the model's curves so far, ``name`` is the method's, for the progress. With ``restart`` a phase that has ended already is trained once more.
    """
    settings = {
        "n_cells": phase.cells.n_cells,
        "n_genes": phase.cells.n_genes,
        "max_epochs": phase.max_epochs,
        "batch_size": phase.defaults.batch_size if batch_size is None else batch_size,
        "micro_batch_size": phase.defaults.micro_batch_size if micro_batch_size is None else micro_batch_size,
        "validation_size": (0.1 if early_stopping else 0.0) if validation_size is None else validation_size,
        "early_stopping": early_stopping,
        "plan": phase.defaults.plan | dict(phase.plan) | (plan_kwargs or {}),
    }
    _check_micro_batch(phase.module, settings["micro_batch_size"], settings["batch_size"])
    where = _compat.resolve_devices(accelerator, devices)
    checkpoint = saved = None
    if checkpoint_dir is not None:
        checkpoint = PhaseCheckpoint(checkpoint_dir, phase.name, settings, seconds=checkpoint_seconds)
        saved = checkpoint.read(restart=restart)
    if saved is not None:
        history = saved["history"]
        if saved["finished"]:
            return _restored(phase.module, checkpoint, history, where.device)
    datamodule = CellDataModule(
        phase.cells,
        settings["batch_size"],
        validation_size=settings["validation_size"],
        normalize=phase.module.normalize,
        val_idx=phase.val_idx if saved is None else saved["held_out"].numpy(),
    )
    trainer_kwargs = {"early_stopping": early_stopping, "callbacks": [*phase.callbacks, *callbacks]} | trainer_kwargs
    trainer_kwargs = _with_progress(trainer_kwargs, phase, name)
    plan, trainer = _plan_and_trainer(phase, datamodule, settings, where, trainer_kwargs)
    if checkpoint is not None:
        checkpoint.attach(trainer, history, datamodule.val_idx)
    error = _compat.run(trainer, plan, datamodule, ckpt_path=None if saved is None else checkpoint.path)
    if error is None and trainer.global_step == 0:
        error = ValueError(
            "training took no step, so that nothing is trained; max_steps, max_time or limit_train_batches end it before."
        )
    if error is None and (name := _not_finite(phase.module)) is not None:
        error = ValueError(
            f"training has diverged: the weights {name!r} are not finite; take a smaller learning rate, "
            "plan_kwargs={'lr': …}, or precision='32-true'."
        )
    fitted = Fitted(
        history=join(history, curves(trainer)),
        n_epochs=int(trainer.current_epoch),
        error=error,
        device=where.device,
        trainer=trainer,
        train_idx=datamodule.train_idx,
        val_idx=datamodule.val_idx,
    )
    _end(phase.module, datamodule, fitted)
    if error is None and checkpoint is not None:
        checkpoint.finish(phase.module, fitted.history)
    return fitted


def _plan_and_trainer(
    phase: Phase, datamodule: CellDataModule, settings: dict[str, Any], where: _compat.Where, options: dict[str, Any]
) -> tuple[SSLTrainingPlan, Trainer]:
    """The training plan, and scvi-tools' trainer; ``options`` are the trainer's."""
    clip = options.pop("gradient_clip_val", phase.defaults.gradient_clip_val)
    fused = not str(options.get("precision", "")).endswith("mixed")
    plan: SSLTrainingPlan
    if settings["micro_batch_size"] is None:
        plan = SSLTrainingPlan(phase.module, prefix=phase.prefix, fused=fused, **settings["plan"])
        options["gradient_clip_val"] = clip
    else:  # it optimises by itself, so that the trainer must not clip
        divided = {"micro_batch_size": settings["micro_batch_size"], "gradient_clip_val": clip}
        plan = ChunkedContrastPlan(phase.module, prefix=phase.prefix, fused=fused, **divided, **settings["plan"])
    max_epochs = phase.max_epochs or phase.defaults.epochs(datamodule.n_train, datamodule.batch_size)
    if settings["early_stopping"]:
        patience = min(max(round(PATIENCE * max_epochs), 1), MAX_PATIENCE)
        monitor = f"{phase.prefix}validation_loss"
        options = {"early_stopping_monitor": monitor, "early_stopping_patience": patience} | options
    if datamodule.n_val:
        options = {"check_val_every_n_epoch": 1} | options
    options["plugins"] = [SafeCheckpointIO(), *(options.get("plugins") or ())]
    trainer = _compat.trainer(
        where,
        max_epochs=max_epochs,
        **{"benchmark": False, "log_every_n_steps": 1} | options,
    )
    return plan, trainer


def _with_progress(options: dict[str, Any], phase: Phase, name: str) -> dict[str, Any]:
    """The trainer's options with our bar in place of scvi-tools', unless the user wants none or brings another one."""
    callbacks, shown = options["callbacks"], options.pop("enable_progress_bar", True)
    simple = options.pop("simple_progress_bar", True)
    theirs = any(isinstance(callback, ProgressBar) for callback in callbacks)
    if shown and simple and not theirs:
        part = phase.prefix.rstrip("_")
        ours = EpochProgress(f"{name} ({part})" if part else name, loss=f"{phase.prefix}train_loss")
        options = options | {"callbacks": [*callbacks, ours]}
    bar = shown and (theirs or not simple)  # of Lightning
    return options | {"enable_progress_bar": bar, "simple_progress_bar": False}


def _not_finite(module: SSLModule) -> str | None:
    """The first weights that hold NaN or infinity."""
    return next((name for name, weight in module.named_parameters() if not torch.isfinite(weight).all()), None)


def _end(module: SSLModule, datamodule: CellDataModule, fitted: Fitted) -> None:
    """Lightning has moved the module to the CPU; unless there was an error it is brought to what embeds best."""
    module.to(fitted.device)
    if fitted.error is None or fitted.interrupted:
        loader = CellLoader(datamodule.cells, datamodule.train_idx, datamodule.batch_size, device=fitted.device)
        with torch.no_grad():
            module.after_fit(loader)
    module.eval()


def _restored(
    module: SSLModule, checkpoint: PhaseCheckpoint, history: dict[str, list[float]], device: torch.device
) -> Fitted:
    """A phase that ended before: its weights, and the random numbers that came after it."""
    checkpoint.restore(module)
    module.to(device).eval()
    return Fitted(history, n_epochs=0, error=None, device=device)


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
