"""Progress of a training: a bar in a terminal or a notebook, plain lines in a log, nothing where none is wanted."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any, TypeVar

from lightning.pytorch import Callback

from sc_ssl._logging import logger, wanted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lightning.pytorch import LightningModule, Trainer

T = TypeVar("T")
#: shortest time in seconds between two lines of a log
LINE_SECONDS = 30.0
#: a training that takes longer, in seconds, has its length estimated after the first epoch
LONG = 60.0
BAR = "{desc} |{bar}| {percentage:3.0f}% {elapsed}<{remaining}"


class EpochProgress(Callback):
    """Shows ``masksc: epoch 12/40, loss 0.231``.

    In a terminal and in a notebook it is one bar, which is green at the end, after early stopping too. Elsewhere it is a line
    at most every 30 seconds and one for the last epoch, with an estimate after the first where training takes over a
    minute. Nothing is shown where lines of level INFO are not: under ``sc.settings.verbosity = 0`` or
    ``logging.getLogger("sc_ssl").setLevel(logging.WARNING)``.

    Parameters
    ----------
    name
        What is trained, for example the name of the method.
    loss
        Name in the history of the loss to show; ``validation_loss`` is shown beside it where cells are held out.
    """

    def __init__(self, name: str, *, loss: str = "train_loss") -> None:
        self.name, self.loss = name, loss
        self._bar: Any = None
        self._start = self._last_line = 0.0
        self._first_epoch = 0

    def on_train_start(self, trainer: Trainer, plan: LightningModule) -> None:
        """Open the bar; a training that goes on begins at its epoch."""
        self._start = self._last_line = time.monotonic()
        self._first_epoch = trainer.current_epoch
        if trainer.is_global_zero and wanted(logging.INFO) and is_interactive():
            steps = int(trainer.num_training_batches)
            done, total = self._first_epoch * steps, (trainer.max_epochs or 0) * steps
            self._bar = open_bar(initial=done, total=total, desc=self._text(trainer, self._first_epoch + 1))

    def on_train_batch_end(self, *_: Any) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update()

    def on_train_epoch_start(self, trainer: Trainer, plan: LightningModule) -> None:
        """Show the loss of the epoch before, which the plan logs after its end."""
        n_done = trainer.current_epoch
        if self._bar is not None:
            self._bar.set_description_str(self._text(trainer, n_done + 1), refresh=False)
        elif n_done > self._first_epoch and trainer.is_global_zero:
            self._log_line(trainer, n_done)

    def on_train_end(self, trainer: Trainer, plan: LightningModule) -> None:
        """Close the bar: a training that ended early by itself is finished."""
        n_done, text = trainer.current_epoch, self._text(trainer, trainer.current_epoch)
        if self._bar is not None:
            self._bar.update(self._bar.total - self._bar.n)  # one that ends before its total is red in a notebook
            self._bar.colour = "green"
            self._bar.set_description_str(text)
            self._close()
        elif trainer.is_global_zero:
            logger.info("%s", text)
        if n_done < (trainer.max_epochs or 0) and trainer.is_global_zero:
            logger.info("%s: stopped early, after epoch %d of %d.", self.name, n_done, trainer.max_epochs)

    def on_exception(self, trainer: Trainer, plan: LightningModule, exception: BaseException) -> None:
        """Leave the bar where the training was interrupted."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _text(self, trainer: Trainer, epoch: int) -> str:
        """The epoch, and the losses that are known."""
        text = f"{self.name}: epoch {epoch}/{trainer.max_epochs}"
        validation = self.loss.replace("train_loss", "validation_loss")
        for label, loss in (("loss", self.loss), ("validation loss", validation)):
            if loss in trainer.callback_metrics:
                text += f", {label} {float(trainer.callback_metrics[loss]):.3g}"
        return text

    def _log_line(self, trainer: Trainer, n_done: int) -> None:
        """A line where the last one is long ago, and after the first epoch an estimate."""
        now = time.monotonic()
        n_left = (trainer.max_epochs or n_done) - n_done
        if n_done == self._first_epoch + 1 and (now - self._start) * (n_left + 1) > LONG:
            length = duration((now - self._start) * n_left)
            logger.info("%s: %d more epochs will take about %s.", self.name, n_left, length)
        if now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            logger.info("%s", self._text(trainer, n_done))


def tracked(items: Sequence[T], name: str) -> Iterator[T]:
    """Go through items under a bar, ``name: 3/24``, in a terminal or a notebook; elsewhere a line at most every 30 seconds."""
    shown = len(items) > 1 and wanted(logging.INFO)
    bar = open_bar(total=len(items), desc=name) if shown and is_interactive() else None
    last_line = time.monotonic()
    try:
        for i, item in enumerate(items):
            if bar is not None:
                bar.set_description_str(f"{name}: {i + 1}/{len(items)}")
            elif shown and time.monotonic() - last_line >= LINE_SECONDS:
                last_line = time.monotonic()
                logger.info("%s: %d/%d", name, i + 1, len(items))
            yield item
            if bar is not None:
                bar.update()
        if bar is not None:
            bar.colour = "green"
    finally:
        if bar is not None:
            bar.close()


def is_interactive() -> bool:
    """Whether a bar can be drawn: stderr is a terminal, or this is a notebook."""
    return in_notebook() or bool(getattr(sys.stderr, "isatty", lambda: False)())


def in_notebook() -> bool:
    """Whether this is a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return type(shell).__name__ == "ZMQInteractiveShell"


def open_bar(**options: Any) -> Any:
    """A bar of tqdm, in a notebook one of its own where ipywidgets are installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm's remark that ipywidgets are missing
        from tqdm.auto import tqdm
    return tqdm(bar_format=BAR, dynamic_ncols=True, **options)


def duration(seconds: float) -> str:
    """For people: ``0.8 s``, ``21 s``, ``4 min``, ``2.5 h``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
