"""A random view of a cell: fewer molecules, fewer genes, and values that are to be predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from sc_ssl._checks import check_choice, check_rate
from sc_ssl.views import binomial_thinning

from .tokens import Tokens

#: share of the masked tokens whose value is hidden, as in scBERT; the others are only predicted
HIDDEN_RATE = 0.9

if TYPE_CHECKING:
    from sc_ssl.data import Minibatch


@dataclass(frozen=True, kw_only=True)
class CellView:
    """What a view leaves out of a cell, and which expression is predicted from it.

    Parameters
    ----------
    gene_dropout_rate
        Share of a cell's genes that are left out, in [0, 1).
    thinning_rate
        Largest share of a cell's molecules that are left out, in [0, 1).
    mask_rate
        Share of the tokens whose value is predicted from the token, in (0, 1].
    predict_from
        ``"cell"``: genes that are not shown are predicted from the cell's vector; ``"token"``: masked values are
        predicted from their gene's own token.
    """

    gene_dropout_rate: float
    thinning_rate: float
    mask_rate: float
    predict_from: Literal["cell", "token"]

    def __post_init__(self) -> None:
        check_rate("gene_dropout_rate", self.gene_dropout_rate)
        check_rate("thinning_rate", self.thinning_rate)
        if not 0 < self.mask_rate <= 1:
            raise ValueError(f"mask_rate lies in (0, 1], found {self.mask_rate}.")
        check_choice("predict_from", self.predict_from, ("cell", "token"))

    def thin(self, cells: Minibatch) -> Minibatch:
        """The cells as a shallower sequencing would have seen them."""
        if not self.thinning_rate:
            return cells
        # the share of molecules that a cell keeps is log-uniform between 1 − thinning_rate and 1
        keep_n1 = (1 - self.thinning_rate) ** torch.rand_like(cells["library_size"])
        counts_ng = binomial_thinning(cells["X"], keep_n1)
        return cells | {"X": counts_ng, "library_size": cells["library_size"] * keep_n1}

    def mask(self, tokens: Tokens) -> tuple[Tensor | None, Tensor | None]:
        """Which tokens' values are predicted, (n, t), and which of them are hidden, (n, t); neither from the cell."""
        if self.predict_from == "cell":
            return None, None
        masked_nt = tokens.real_nt & (torch.rand_like(tokens.value_nt) < self.mask_rate)
        return masked_nt, masked_nt & (torch.rand_like(tokens.value_nt) < HIDDEN_RATE)
