"""Checkpoints of a training, from which the same call goes on after Ctrl-C, SIGTERM or ``kill -9``."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import callbacks
from lightning.pytorch.plugins.io import TorchCheckpointIO
from packaging.version import Version

from sc_ssl._logging import logger

from .storage import UNFINISHED

if TYPE_CHECKING:
    import numpy as np
    from lightning.pytorch import LightningModule, Trainer

#: the first version whose ``weights_only`` runs no code of a file
SAFE_TORCH = (2, 10)
#: where Lightning's checkpoint holds what it does not keep by itself
OWN = "sc_ssl"


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, and reads tensors and plain values only: no code in it is run."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write beside the file and put it in its place: a process that is killed leaves the earlier one."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".tmp")
        beside.unlink(missing_ok=True)  # so that no link is followed
        torch.save(checkpoint, beside)
        os.replace(beside, path)

    def load_checkpoint(self, path: str | Path, *_: Any, **__: Any) -> dict[str, Any]:
        """Read onto the CPU; an error where torch might run code from the file in spite of ``weights_only``."""
        if Version(torch.__version__).release < SAFE_TORCH:
            raise ValueError(
                f"going on with the training in {path} needs torch 2.10 or newer, found {torch.__version__}, which can be made to "
                "run code from a checkpoint (CVE-2025-32434, CVE-2026-24747); update torch, or remove the file to train from "
                "the start."
            )
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever torch raises of a file that is none of its own, or cut off
            raise ValueError(f"{path} is damaged: {error}; remove it to train from the start.") from error


class PhaseCheckpoint(callbacks.Checkpoint):
    """Lightning's checkpoint of one phase of a training, written where an epoch ends.

    Lightning keeps weights, optimiser, schedule, epochs and the state of callbacks. Beside them stand the random state,
    the history, the cells held out, and the settings: with other ones it is another training. A phase that has ended
    leaves its weights, so that a training in several phases is not trained from its first one again.

    Parameters
    ----------
    folder
        The folder that the user named.
    name
        Of the phase.
    settings
        What makes it this training, as plain data.
    seconds
        Shortest time between two checkpoints; 0 writes one an epoch.
    """

    def __init__(self, folder: str | Path, name: str, settings: dict[str, Any], *, seconds: float) -> None:
        self.folder = Path(folder).expanduser()
        self.path = self.folder / UNFINISHED / f"{name}.ckpt"
        self.settings = json.loads(json.dumps(settings, default=str))
        self.seconds = seconds
        self._io = SafeCheckpointIO()
        self._saved: dict[str, Any] | None = None

    def read(self, *, restart: bool) -> dict[str, Any] | None:
        """What the file holds beside Lightning's own, if there is one; an error when it is of another training.

        With ``restart`` a phase that has ended is forgotten.
        """
        if not self.path.is_file():
            return None
        self._saved = self._io.load_checkpoint(self.path)
        if restart and self._saved[OWN]["finished"]:
            self._saved = None
            return None
        theirs = self._saved[OWN]["settings"]
        differing = [
            f"{name} ({theirs.get(name)} there, {self.settings.get(name)} here)"
            for name in sorted(theirs.keys() | self.settings.keys())
            if theirs.get(name) != self.settings.get(name)
        ]
        if differing:
            raise ValueError(
                f"{self.folder} holds an unfinished training that differs in {', '.join(differing)}; repeat the call that "
                "was interrupted to finish it, or take another folder."
            )
        return self._saved[OWN]

    def attach(self, trainer: Trainer, history: dict[str, list[float]], held_out: np.ndarray) -> None:
        """Follow a training whose model has this history, and which holds out these cells."""
        self._history, self._held_out = history, torch.as_tensor(held_out)
        self._time = time.monotonic()
        trainer.callbacks.append(self)  # Lightning calls checkpoints after all other callbacks

    def restore(self, module: torch.nn.Module) -> None:
        """Bring back the weights of a phase that has ended, and the random state after it."""
        prefix = "module."
        module.load_state_dict({name.removeprefix(prefix): t for name, t in self._saved["state_dict"].items()})
        _set_random_state(self._saved[OWN])

    def finish(self, module: torch.nn.Module, history: dict[str, list[float]]) -> None:
        """Keep the weights of a phase that has ended, in place of all that going on would need."""
        state = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
        own = {"finished": True, "settings": self.settings, "history": history, **_random_state()}
        self._io.save_checkpoint({"state_dict": state, OWN: own}, self.path)

    def on_train_start(self, trainer: Trainer, plan: LightningModule) -> None:
        """Take up random numbers, and a stop that was decided, where they were."""
        if self._saved is not None:
            saved = self._saved.pop(OWN)
            _set_random_state(saved)
            trainer.should_stop = saved["should_stop"]
            logger.info(
                "Going on with the training that was interrupted, at epoch %d of %d.",
                trainer.current_epoch + 1,
                trainer.max_epochs,
            )

    def on_fit_end(self, trainer: Trainer, plan: LightningModule) -> None:
        """Take up random numbers too where no epoch was left, and training never started."""
        if self._saved is not None and OWN in self._saved:
            _set_random_state(self._saved.pop(OWN))

    def on_train_epoch_end(self, trainer: Trainer, plan: LightningModule) -> None:
        """Write, when the last time is long enough ago."""
        # one answer for all processes: writing is a step that they take together
        if trainer.strategy.broadcast(time.monotonic() - self._time >= self.seconds):
            trainer.save_checkpoint(self.path)
            self._time = time.monotonic()

    def on_save_checkpoint(self, trainer: Trainer, plan: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not keep."""
        checkpoint[OWN] = {
            "finished": False,
            "settings": self.settings,
            "history": join(self._history, curves(trainer)),
            "held_out": self._held_out,
            "should_stop": trainer.should_stop,
            **_random_state(),
        }


def curves(trainer: Trainer) -> dict[str, list[float]]:
    """The curves of a run, name → a value an epoch; those of an epoch that ends now are not all with the logger yet."""
    logged = getattr(trainer.logger, "history", None) or {}  # another logger than scvi-tools' keeps none
    found = {name: frame[name].astype(float).tolist() for name, frame in logged.items()}
    if not trainer.training:
        return found
    missing = [n for n in trainer.callback_metrics if n not in logged or trainer.current_epoch not in logged[n].index]
    return join(found, {name: [float(trainer.callback_metrics[name])] for name in missing})


def join(earlier: dict[str, list[float]], later: dict[str, list[float]]) -> dict[str, list[float]]:
    """One curve after the other, name by name."""
    return {name: [*earlier.get(name, ()), *later.get(name, ())] for name in dict.fromkeys([*earlier, *later])}


def _set_random_state(saved: dict[str, Any]) -> None:
    """Torch's random numbers go on from a saved state."""
    torch.set_rng_state(saved["random_state"])
    for device, state in enumerate(saved["device_random_states"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state, device)


def _random_state() -> dict[str, Any]:
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"random_state": torch.get_rng_state(), "device_random_states": devices}
