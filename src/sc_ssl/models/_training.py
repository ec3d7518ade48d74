"""Training one module of a model, once or phase by phase."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from sc_ssl import _compat
from sc_ssl._logging import logger
from sc_ssl.data import CellDataModule, CellLoader, Cells
from sc_ssl.train import SSLTrainingPlan

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lightning.pytorch import Callback

    from ._base import SSLModel
    from ._module import SSLModule


@dataclass(frozen=True)
class TrainingDefaults:
    """How a method trains when nothing is said: epochs for up to ``full_cells`` cells, fewer in proportion above."""

    max_epochs: int
    batch_size: int
    plan: dict[str, Any] = field(default_factory=dict)
    gradient_clip_val: float | None = None
    min_steps: int = 0
    full_cells: int = 20_000

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
    validation_size: float | None = None,
    early_stopping: bool = False,
    accelerator: str = "auto",
    devices: int | list[int] | str = "auto",
    plan_kwargs: dict[str, Any] | None = None,
    callbacks: Iterable[Callback] = (),
    prefix: str = "",
    **trainer_kwargs: Any,
) -> None:
    """Train a module on the model's cells; a model in phases calls it once a phase."""
    if devices not in ("auto", 1, "1") and not (isinstance(devices, list) and len(devices) == 1):
        raise ValueError(f"training runs on one device, found devices={devices!r}; pass 1 or a list of one.")
    if (max_epochs is not None and max_epochs < 1) or (batch_size is not None and batch_size < 2):
        raise ValueError(f"max_epochs is at least 1 and batch_size 2, found {max_epochs} and {batch_size}.")
    if validation_size is None:
        validation_size = 0.1 if early_stopping else 0.0
    datamodule = CellDataModule(
        cells,
        batch_size or defaults.batch_size,
        validation_size=validation_size,
        normalize=None if module.reads_counts else module.normalize,
    )
    if early_stopping:
        trainer_kwargs = {"early_stopping_monitor": f"{prefix}validation_loss"} | trainer_kwargs
    if datamodule.n_val:
        trainer_kwargs = {"check_val_every_n_epoch": 1} | trainer_kwargs
    runner = _compat.train_runner(
        model,
        training_plan=SSLTrainingPlan(module, prefix=prefix, **(defaults.plan | (plan_kwargs or {}))),
        data_splitter=datamodule,
        max_epochs=max_epochs or defaults.epochs(datamodule.n_train, datamodule.batch_size),
        accelerator=accelerator,
        devices=devices,
        early_stopping=early_stopping,
        callbacks=list(callbacks),
        **{"gradient_clip_val": defaults.gradient_clip_val, "benchmark": False, "log_every_n_steps": 1}
        | trainer_kwargs,
    )
    earlier = dict(model.history_ or {})
    model.is_trained_, was_trained = False, model.is_trained_  # the runner then leaves the joining to us
    finished = None
    try:
        finished = _compat.run(runner)
    finally:
        model.history_ = join_histories(earlier, model.history_ or {})
        if not finished:  # lightning has moved the module, and only it, back to the CPU
            model.to_device("cpu")
        with torch.no_grad():
            module.after_fit(CellLoader(cells, datamodule.train_idx, datamodule.batch_size, device=model.device))
        model.module.eval()
        n_epochs = runner.trainer.current_epoch
        # an earlier phase trains a part of the model, which embeds nothing yet; after an error nothing is trained
        usable = finished or (finished is not None and n_epochs > 0)
        model.is_trained_ = was_trained or (module is model.module and usable)
    if not finished:
        state = "usable as it is" if model.is_trained_ else "not usable before train() has been called again"
        logger.warning("Training was interrupted after %d epochs; the model is %s.", n_epochs, state)
        raise KeyboardInterrupt


def join_histories(earlier: dict[str, pd.DataFrame], later: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    joined = dict(earlier)
    for name, frame in later.items():
        values = [*(earlier[name][name] if name in earlier else []), *frame[name]]
        joined[name] = history_frame(name, values)
    return joined


def history_frame(name: str, values: Sequence[float]) -> pd.DataFrame:
    """A curve as scvi-tools keeps it: one column, one row an epoch."""
    return pd.DataFrame({name: values}, index=pd.RangeIndex(len(values), name="epoch"), dtype=float)
