"""A training that was interrupted, kept so that it can be finished."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd
import torch

from .storage import UNFINISHED

if TYPE_CHECKING:
    from torch import Tensor

    from sc_ssl.data import CellDataModule
    from sc_ssl.train import SSLTrainingPlan

    from .model import SSLModel
    from .module import SSLModule


@dataclass(frozen=True)
class Unfinished:
    """What the rest of an interrupted training depends on.

    Attributes
    ----------
    asked
        The settings of the training, as JSON: with other ones it is another training.
    snapshot
        The state to go on from; see :class:`~sc_ssl.train.SSLTrainingPlan`.
    held_out
        Positions of the validation cells.
    curves
        The history up to the snapshot.
    """

    asked: str
    snapshot: dict[str, Any]
    held_out: Tensor
    curves: dict[str, list[float]]

    @classmethod
    def of(
        cls,
        plan: SSLTrainingPlan,
        datamodule: CellDataModule,
        asked: dict[str, Any],
        earlier: dict[str, list[float]],
        later: dict[str, list[float]],
    ) -> Self:
        """What is left of a run, whose curves came after the earlier ones."""
        n_kept = plan.snapshot["n_epochs"] - plan.n_earlier
        curves = join(earlier, {name: values[:n_kept] for name, values in later.items()})
        return cls(_text(asked), plan.snapshot, torch.as_tensor(datamodule.val_idx), curves)

    @property
    def n_epochs(self) -> int:
        """Epochs that need not be trained again."""
        return int(self.snapshot["n_epochs"])

    def is_what_was(self, asked: dict[str, Any]) -> bool:
        """Whether this is the training with these settings."""
        return self.asked == _text(asked)

    def restore(self, model: SSLModel, module: SSLModule) -> None:
        """Bring back weights and history; the rest is the training plan's."""
        module.load_state_dict(self.snapshot["module"])
        model.history_ = to_history(self.curves)

    def save(self, folder: str | Path) -> None:
        """Write beside the model."""
        torch.save(asdict(self), Path(folder) / UNFINISHED)

    @classmethod
    def load(cls, folder: str | Path) -> Self | None:
        """Read what is beside a saved model, if there is anything; tensors and plain values only."""
        path = Path(folder) / UNFINISHED
        return cls(**torch.load(path, map_location="cpu", weights_only=True)) if path.exists() else None


def _text(asked: dict[str, Any]) -> str:
    return json.dumps(asked, sort_keys=True, default=str)


History = dict[str, pd.DataFrame]


def to_history(curves: Mapping[str, Sequence[float]]) -> History:
    """Data frames from lists."""
    return {
        name: pd.DataFrame({name: values}, index=pd.RangeIndex(len(values), name="epoch"), dtype=float)
        for name, values in curves.items()
    }


def to_lists(history: Mapping[str, pd.DataFrame] | None, n_epochs: int | None = None) -> dict[str, list[float]]:
    """Lists from data frames, of the first epochs or of all."""
    return {name: frame[name].tolist()[:n_epochs] for name, frame in (history or {}).items()}


def join(earlier: Mapping[str, Sequence[float]], later: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """One curve after the other, name by name."""
    return {name: [*earlier.get(name, ()), *later.get(name, ())] for name in dict.fromkeys([*earlier, *later])}
