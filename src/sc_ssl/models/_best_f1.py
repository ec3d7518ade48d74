"""Training with early stopping on macro F1, and the best state restored."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from sklearn.metrics import f1_score

from sc_ssl.data import CellLoader

from ._base import INFERENCE_BATCH_SIZE
from ._training import fit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from sc_ssl.data import Cells

    from ._classifier_module import CellClassifierModule, Head
    from .classifier import CellClassifier

#: fewer cells than this say nothing about which state is the best
MIN_VALIDATION = 10
#: labelled cells of a typical (median) type from which on the encoder is trained too
MIN_TO_UNFREEZE = 20


def few_labels(n_k: np.ndarray) -> bool:
    """Whether the numbers of labelled cells are too small to train the encoder."""
    return bool(np.median(n_k[n_k > 0]) < MIN_TO_UNFREEZE)


def validation_cells(label_n: np.ndarray, size: float) -> np.ndarray:
    """Positions of a stratified validation split, sorted: of every type with three cells at least one; or none at all."""
    if not 0 <= size < 1:
        raise ValueError(f"validation_size lies in [0, 1), found {size}.")
    held_out = []
    for code in np.unique(label_n):
        rows = np.flatnonzero(label_n == code)
        n = max(round(size * len(rows)), 1) if size and len(rows) >= 3 else 0
        held_out.append(rows[torch.randperm(len(rows))[:n].numpy()])
    index = np.sort(np.concatenate(held_out))
    return index if len(index) >= MIN_VALIDATION else index[:0]


class BestMacroF1(Callback):
    """Keeps the state with the highest macro F1 on the held-out cells, ties by the lower cross-entropy; stops in time."""

    def __init__(
        self,
        module: Head | CellClassifierModule,
        cells: Cells,
        label_n: np.ndarray,
        patience: int,
        prefix: str = "",
    ) -> None:
        self.module = module
        self.cells, self.label_n = cells, label_n
        self.patience, self.prefix = patience, prefix
        self._best: tuple[float, float] | None = None
        self._state: dict[str, Tensor] = {}
        self._n_since = 0

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: Trainer, plan: LightningModule) -> None:
        """Score the state after this epoch."""
        self.module.eval()
        loader = CellLoader(self.cells, np.arange(self.cells.n_cells), INFERENCE_BATCH_SIZE, device=plan.device)
        logit_nk = torch.cat([self.module.logits(minibatch) for minibatch in loader]).cpu()
        self.module.train()
        found = logit_nk.argmax(dim=1).numpy()
        score = f1_score(self.label_n, found, average="macro", zero_division=0)
        loss = float(F.cross_entropy(logit_nk, torch.as_tensor(self.label_n)))
        plan.log(f"{self.prefix}macro_f1_validation", score)
        if self._best is None or (score, -loss) > self._best:
            self._best, self._n_since = (score, -loss), 0
            self._state = copy.deepcopy(self.module.state_dict())
        else:
            self._n_since += 1
            trainer.should_stop |= self._n_since >= self.patience

    def on_fit_end(self, trainer: Trainer, plan: LightningModule) -> None:
        """Back to the best state, if an epoch was finished."""
        if self._best is not None:
            self.module.load_state_dict(self._state)


def fit_to_best_f1(
    classifier: CellClassifier,
    module: Head | CellClassifierModule,
    cells: Cells,
    *,
    label_n: np.ndarray,
    held_out: np.ndarray,
    patience: int,
    rates: dict[str, Any],
    prefix: str,
    callbacks: Iterable[Callback] = (),
    plan_kwargs: dict[str, Any] | None = None,
    **options: Any,
) -> None:
    """One stage of training; when it is interrupted, the best state so far stays, and the stage starts anew."""
    if len(held_out):
        callbacks = [BestMacroF1(module, cells.take(held_out), label_n[held_out], patience, prefix), *callbacks]
    try:
        fit(
            classifier,
            module,
            classifier.training,
            cells=cells.beside(label=label_n),
            val_idx=held_out,
            plan_kwargs=classifier.training.plan | rates | (plan_kwargs or {}),
            callbacks=callbacks,
            prefix=prefix,
            **options,
        )
    finally:
        classifier.unfinished = None  # a split drawn anew would not be the one that it was interrupted with
