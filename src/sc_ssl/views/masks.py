"""Which tokens of a cell are hidden."""

from typing import NamedTuple

import torch
from torch import Tensor


class TokenMask(NamedTuple):
    """Positions of the visible (n, v) and of the hidden (n, m) tokens of each cell; together every token once."""

    visible_nv: Tensor
    hidden_nm: Tensor


def random_mask(n_cells: int, n_tokens: int, rate: float, device: torch.device | str = "cpu") -> TokenMask:
    """Hide a random share of the tokens, drawn for each cell alone (He et al. 2022, random masking).

    ``floor(n_tokens * (1 - rate))`` tokens stay visible, but at least one is visible and at least one hidden.

    Parameters
    ----------
    n_cells, n_tokens
        Number of cells n and of tokens a cell.
    rate
        Share of hidden tokens, in (0, 1).
    device
        Where the positions are drawn.
    """
    if not 0 < rate < 1:
        raise ValueError(f"rate is the share of hidden tokens, in (0, 1), found {rate}.")
    if n_tokens < 2:
        raise ValueError(f"masking needs at least 2 tokens, found {n_tokens}.")
    n_visible = min(max(int(n_tokens * (1 - rate) + 1e-9), 1), n_tokens - 1)
    shuffled_nt = torch.rand(n_cells, n_tokens, device=device).argsort(dim=1)
    return TokenMask(shuffled_nt[:, :n_visible], shuffled_nt[:, n_visible:])
