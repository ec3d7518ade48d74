"""Attention by random features (FAVOR+, Choromanski et al. 2021), linear in the number of tokens."""

import math

import torch
from torch import Tensor, nn

#: added to every feature, so that none is 0
FLOOR = 1e-4


class RandomFeatures(nn.Module):
    """Softmax attention approximated by positive random features; orthogonal directions, drawn once.

    Departs from the code released with CellLM: padded keys are out of numerator and denominator (there they stay in the
    denominator, so that the output says how long a cell is); the keys' exponent is shifted by a maximum for each cell
    and head, not over the minibatch, so that no cell depends on another; directions are not drawn anew in training.

    Parameters
    ----------
    head_width
        k.
    n_features
        m, by default ``⌊k ln k⌋``, at least k.
    """

    direction_mk: Tensor

    def __init__(self, head_width: int, n_features: int | None = None) -> None:
        super().__init__()
        m = n_features or max(int(head_width * math.log(head_width)), head_width)
        self.register_buffer("direction_mk", orthogonal_directions(m, head_width))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, real_nt: Tensor | None = None) -> Tensor:
        """Queries, keys and values (n, heads, t, k) → (n, heads, t, k); keys only where ``real_nt``, (n, t)."""
        real = None if real_nt is None else real_nt[:, None, :, None]
        query_exponent, key_exponent = self._exponent(query), self._exponent(key)
        if real is not None:
            key_exponent = key_exponent.masked_fill(~real, -torch.inf)
        # a factor common to all features cancels, for queries of each token and for keys of each head
        query_m = torch.exp(query_exponent - query_exponent.amax(dim=-1, keepdim=True)) + FLOOR
        key_m = torch.exp(key_exponent - key_exponent.amax(dim=(-2, -1), keepdim=True)) + FLOOR
        if real is not None:
            key_m = key_m.masked_fill(~real, 0)
        normalizer = query_m @ key_m.sum(dim=-2).unsqueeze(-1)
        attended: Tensor = (query_m @ (key_m.transpose(-2, -1) @ value)) / normalizer
        return attended

    def _exponent(self, x: Tensor) -> Tensor:
        u = x * x.shape[-1] ** -0.25
        exponent: Tensor = u @ self.direction_mk.T - u.square().sum(dim=-1, keepdim=True) / 2
        return exponent


def orthogonal_directions(m: int, k: int) -> Tensor:
    """Gaussian directions (m, k), orthogonal within blocks of k."""
    blocks = [torch.linalg.qr(torch.randn(k, k)).Q.T for _ in range(-(-m // k))]
    direction_mk: Tensor = torch.cat(blocks)[:m] * torch.randn(m, k).norm(dim=1, keepdim=True)
    return direction_mk
