"""Training of a classifier on labelled cells: from a probe, and with the best state restored where it can be chosen."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from scipy import sparse
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sc_ssl.data import CellLoader
from sc_ssl.models.base import INFERENCE_BATCH_SIZE, Phase
from sc_ssl.models.base.fit import fit
from sc_ssl.models.base.model import to_lists
from sc_ssl.nn import Transformer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sc_ssl.data import Cells

    from .classifier import CellClassifier
    from .head import CellClassifierModule, ClassWeight, Head


Adapt = Literal["all", "last", "lora"]
#: of the updates of LoRA
RANK = 8


class LowRank(nn.Module):
    """W + B A with B (out, rank) from 0 and A (rank, in) at random, as LoRA (Hu et al. 2022), α = rank."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        self.up = nn.Parameter(weight.new_zeros(weight.shape[0], rank))
        self.down = nn.Parameter(torch.randn_like(weight[:rank]) * weight.shape[1] ** -0.5)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with its update."""
        return weight + self.up @ self.down


@contextmanager
def adapted(encoder: nn.Module, how: Adapt) -> Iterator[None]:
    """Train, inside the block, only this part of an encoder; afterwards all updates are in its weights.

    ``"last"`` is the last block of the transformer and the final norm, as CellLM is fine-tuned; ``"lora"`` updates of
    rank 8 of what makes queries, keys, values and outputs in all blocks.

    Raises
    ------
    ValueError
        An encoder without a transformer.
    """
    if how == "all":
        yield
        return
    transformer = next((part for part in encoder.modules() if isinstance(part, Transformer)), None)
    if transformer is None:
        raise ValueError(f"adapt={how!r} is for encoders with a transformer (CellLM, MaskSC); take 'all'.")
    trained = [p for p in encoder.parameters() if p.requires_grad]
    for p in trained:
        p.requires_grad_(False)
    attentions = [block.attention for block in transformer.blocks] if how == "lora" else []
    layers = [layer for attention in attentions for layer in (attention.qkv, attention.out)]
    if how == "last":
        last = [*transformer.blocks[-1].parameters(), *transformer.norm.parameters()]
        for p in last:
            p.requires_grad_()
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, RANK))
    try:
        yield
    finally:
        for layer in layers:
            parametrize.remove_parametrizations(layer, "weight")
        for p in trained:
            p.requires_grad_()


#: fewer cells than this say nothing about how sure a classifier may be
MIN_VALIDATION = 10
#: and fewer than this, about which state is the best
MIN_TO_CHOOSE = 100


def validation_cells(label_n: np.ndarray, size: float) -> np.ndarray:
    """Positions of a stratified validation split, sorted: of every type with three cells at least one; or none at all."""
    if not 0 <= size < 1:
        raise ValueError(f"validation_size lies in [0, 1), found {size}.")
    held_out = []
    for code in np.unique(label_n):
        rows = np.flatnonzero(label_n == code)
        n = min(max(round(size * len(rows)), 1), len(rows) - 1) if size and len(rows) >= 3 else 0
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

    def on_train_start(self, trainer: Trainer, plan: LightningModule) -> None:
        """The state that training starts from may be the best."""
        self._score(plan)

    def on_train_epoch_end(self, trainer: Trainer, plan: LightningModule) -> None:
        """Score the state after this epoch."""
        plan.log(f"{self.prefix}macro_f1_validation", self._score(plan))
        trainer.should_stop |= self._n_since >= self.patience

    def on_train_end(self, trainer: Trainer, plan: LightningModule) -> None:
        """Go back to the best state."""
        self.restore()

    def on_exception(self, trainer: Trainer, plan: LightningModule, exception: BaseException) -> None:
        """Also when training is interrupted."""
        self.restore()

    @torch.no_grad()
    def _score(self, plan: LightningModule) -> float:
        """Macro F1 of the state as it is, which is kept when it is the best so far."""
        self.module.eval()
        loader = CellLoader(self.cells, np.arange(self.cells.n_cells), INFERENCE_BATCH_SIZE, device=plan.device)
        logit_nk = torch.cat([self.module.logits(minibatch) for minibatch in loader]).cpu()
        self.module.train()
        found = logit_nk.argmax(dim=1).numpy()
        score = float(f1_score(self.label_n, found, average="macro", zero_division=0))
        loss = float(F.cross_entropy(logit_nk, torch.as_tensor(self.label_n)))
        if self._best is None or (score, -loss) > self._best:
            self._best, self._n_since = (score, -loss), 0
            self._state = copy.deepcopy(self.module.state_dict())
        else:
            self._n_since += 1
        return score

    def restore(self) -> None:
        """Back to the best state, if one was scored."""
        if self._best is not None:
            self.module.load_state_dict(self._state)


@contextmanager
def ending(finish: Callable[[], None]) -> Iterator[None]:
    """Do this at the end, and when the training inside is interrupted; not after an error."""
    try:
        yield
    except KeyboardInterrupt:
        finish()
        raise
    finish()


def fine_tune(
    classifier: CellClassifier,
    index: np.ndarray,
    label_n: np.ndarray,
    held_out: np.ndarray | None = None,
    *,
    max_epochs: int | None,
    freeze_encoder: bool,
    head_epochs: int | None,
    lr_head: float,
    lr_encoder: float,
    adapt: Adapt,
    class_weight: ClassWeight | None,
    patience: int = 0,
    prefix: str = "",
    **fit_options: Any,
) -> None:
    """The probe, then the head's epochs, then those of the whole network.

    Parameters
    ----------
    index, label_n
        Positions of the labelled cells, and their types.
    held_out
        Which of these the state is chosen by that is kept; all are trained on without.

    See :meth:`CellClassifier.train` for the others.
    """
    held_out = np.empty(0, dtype=np.int64) if held_out is None else held_out
    cells, module = classifier._own_cells().take(index), classifier.module
    rest = np.setdiff1d(np.arange(len(label_n)), held_out)
    n_k = torch.as_tensor(np.bincount(label_n[rest], minlength=len(classifier.classes)))
    module.head.weigh_classes(n_k, class_weight)
    if head_epochs is None:
        head_epochs = max_epochs if freeze_encoder and len(held_out) else 0
    starts = not classifier.is_trained_ or (freeze_encoder and head_epochs == 0)
    z_nd = classifier._map_cells(module.embed, None, index) if starts or head_epochs != 0 else None
    if starts:
        module.head.start_from_probe(torch.as_tensor(z_nd[rest]), label_n[rest])
    stage = partial(_stage, classifier, label_n=label_n, held_out=held_out, patience=patience, **fit_options)
    try:
        if head_epochs != 0:
            embedded = replace(cells, matrix=sparse.csr_matrix(z_nd), column_g=np.arange(z_nd.shape[1]))
            stage(module.head, embedded, rates={"lr": lr_head}, prefix=f"{prefix}head_", max_epochs=head_epochs)
        if not freeze_encoder:
            rates = {"lr": lr_head, "lr_factor": {"encoder.": lr_encoder / lr_head}}
            with adapted(module.encoder, adapt):
                stage(module, cells, rates=rates, prefix=prefix, max_epochs=max_epochs)
    except KeyboardInterrupt:
        classifier.is_trained_ = True  # by the probe at least
        raise
    classifier.is_trained_ = True


def _stage(
    classifier: CellClassifier,
    module: Head | CellClassifierModule,
    cells: Cells,
    *,
    label_n: np.ndarray,
    held_out: np.ndarray,
    patience: int,
    rates: dict[str, Any],
    prefix: str,
    max_epochs: int | None,
    callbacks: Iterable[Callback] = (),
    plan_kwargs: dict[str, Any] | None = None,
    **options: Any,
) -> None:
    """One stage of training; also when it is interrupted, the best state so far stays."""
    best = [BestMacroF1(module, cells.take(held_out), label_n[held_out], patience, prefix)] if len(held_out) else []
    phase = Phase(
        module,
        cells.beside(label=label_n),
        classifier.training,
        max_epochs,
        prefix,
        callbacks=best,
        val_idx=held_out,
        plan=rates,
    )
    fitted = fit(phase, history=to_lists(classifier.history_), callbacks=callbacks, plan_kwargs=plan_kwargs, **options)
    classifier._take(phase, fitted)
