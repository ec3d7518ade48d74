"""What of a pretrained encoder is trained further: all of it, its last block, or low-rank updates of its attention."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sc_ssl.nn import Transformer

if TYPE_CHECKING:
    from collections.abc import Iterator

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
