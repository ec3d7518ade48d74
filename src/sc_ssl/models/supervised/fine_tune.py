"""How a classifier is fine-tuned: its recipe, the part of the encoder that is trained, and the state that is kept."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sc_ssl._checks import check_choice, check_count
from sc_ssl.data import CellLoader
from sc_ssl.models.base import INFERENCE_BATCH_SIZE
from sc_ssl.nn import Transformer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sc_ssl.data import Cells

    from .head import CellClassifierModule, ClassWeight, Head


Adapt = Literal["all", "last", "lora"]
#: of the updates of LoRA
RANK = 8


#: fewer validation cells than this are too few to calibrate by
MIN_VALIDATION = 10
#: and fewer than this, to choose the best state by
MIN_TO_CHOOSE = 100


def no_cells() -> np.ndarray:
    """No positions."""
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Recipe:
    """How a classifier is trained in one run.

    Attributes
    ----------
    freeze_encoder, head_epochs, lr_head, lr_encoder, adapt, class_weight, patience, refused_share
        As in :meth:`CellClassifier.train`, ``head_epochs`` being ``freeze_encoder_epochs``.
    train_m, held_m
        Positions of the cells that are trained on, and of those that are not and calibrate.
    chooses
        Whether the state is kept that has the best macro F1 on the latter.
    prefix
        Put before the names of the curves in the history.
    """

    freeze_encoder: bool
    head_epochs: int | None
    lr_head: float
    lr_encoder: float
    adapt: Adapt
    class_weight: ClassWeight | None
    patience: int
    refused_share: float
    train_m: np.ndarray = field(default_factory=no_cells)
    held_m: np.ndarray = field(default_factory=no_cells)
    chooses: bool = False
    prefix: str = ""

    def check(self, encoder: nn.Module) -> None:
        """Errors for settings out of range, or that this encoder does not have."""
        check_choice("adapt", self.adapt, get_args(Adapt))
        if not (self.lr_head > 0 and self.lr_encoder >= 0 and 0 <= self.refused_share < 1):
            raise ValueError(
                "lr_head is above 0, lr_encoder at least 0 and refused_share lies in [0, 1), found "
                f"{self.lr_head}, {self.lr_encoder} and {self.refused_share}."
            )
        if self.head_epochs is not None:
            check_count("freeze_encoder_epochs", self.head_epochs, least=0)
        if self.adapt != "all" and not self.freeze_encoder:
            transformer_of(encoder, self.adapt)

    def on(
        self, train_m: np.ndarray, held_m: np.ndarray | None = None, *, chooses: bool = False, prefix: str = ""
    ) -> Self:
        """The same for these cells."""
        held_m = no_cells() if held_m is None else held_m
        return replace(self, train_m=train_m, held_m=held_m, chooses=chooses, prefix=prefix)


def transformer_of(encoder: nn.Module, adapt: Adapt) -> Transformer:
    """The transformer in an encoder; an error when there is none to adapt."""
    for part in encoder.modules():
        if isinstance(part, Transformer):
            return part
    raise ValueError(f"adapt={adapt!r} is for encoders with a transformer (CellLM, MaskSC); take 'all'.")


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
    transformer = transformer_of(encoder, how)
    trained = [p for p in encoder.parameters() if p.requires_grad]
    for p in trained:
        p.requires_grad_(False)
    blocks: list[Any] = list(transformer.blocks)
    layers: list[Any] = []
    if how == "last":
        for p in [*blocks[-1].parameters(), *transformer.norm.parameters()]:
            p.requires_grad_()
    else:
        layers = [layer for block in blocks for layer in (block.attention.qkv, block.attention.out)]
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, RANK))
    try:
        yield
    finally:
        for layer in layers:
            parametrize.remove_parametrizations(layer, "weight")
        for p in trained:
            p.requires_grad_()


def validation_cells(label_n: np.ndarray, size: float) -> np.ndarray:
    """Positions of a stratified validation split, sorted: of every type with three cells at least one; or none at all.

    scikit-learn's ``train_test_split`` leaves rare types out, and fails when there are more types than validation cells.
    """
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
    """Keeps the state with the highest macro F1 on the held-out cells, ties by the lower cross-entropy; stops in time.

    The best state is back in the module when training ends or is interrupted.

    Parameters
    ----------
    module
        What is trained.
    cells
        Those held out, with their types' codes as ``"label"`` beside them.
    patience
        Epochs without a better state after which training stops.
    prefix
        Put before the name of the curve.
    """

    def __init__(self, module: Head | CellClassifierModule, cells: Cells, *, patience: int, prefix: str = "") -> None:
        self.module, self.cells = module, cells
        self.patience, self.prefix = patience, prefix
        self._best: tuple[float, float] | None = None
        self._state: dict[str, Tensor] = {}
        self._n_since = 0

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: the best score and state so far, and the epochs since."""
        return {"best": self._best, "state": self._state, "n_since": self._n_since}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._best, self._state, self._n_since = (state_dict[name] for name in ("best", "state", "n_since"))

    def on_train_start(self, trainer: Trainer, plan: LightningModule) -> None:
        """The state that training starts from may be the best."""
        if self._best is None:
            self._score(plan)

    def on_train_epoch_end(self, trainer: Trainer, plan: LightningModule) -> None:
        """Score the state after this epoch."""
        plan.log(f"{self.prefix}macro_f1_validation", self._score(plan))
        trainer.should_stop |= self._n_since >= self.patience

    def on_train_end(self, trainer: Trainer, plan: LightningModule) -> None:
        """Go back to the best state."""
        self._restore()

    def on_exception(self, trainer: Trainer, plan: LightningModule, exception: BaseException) -> None:
        """Also when training is interrupted."""
        self._restore()

    @torch.no_grad()
    def _score(self, plan: LightningModule) -> float:
        """Macro F1 of the state as it is, which is kept when it is the best so far."""
        self.module.eval()
        loader = CellLoader(self.cells, np.arange(self.cells.n_cells), INFERENCE_BATCH_SIZE, device=plan.device)
        logit_nk = torch.cat([self.module.logits(minibatch) for minibatch in loader]).cpu()
        self.module.train()
        label_n = self.cells.extra["label"]
        score = float(f1_score(label_n, logit_nk.argmax(dim=1).numpy(), average="macro", zero_division=0))
        loss = float(F.cross_entropy(logit_nk, torch.as_tensor(label_n)))
        if self._best is None or (score, -loss) > self._best:
            self._best, self._n_since = (score, -loss), 0
            self._state = copy.deepcopy(self.module.state_dict())
        else:
            self._n_since += 1
        return score

    def _restore(self) -> None:
        if self._best is not None:
            self.module.load_state_dict(self._state)
