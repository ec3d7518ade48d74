"""Pre-norm transformer blocks."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_ssl._checks import check_choice, check_count, check_rate

#: added to every feature, so that none is 0
FLOOR = 1e-4


class RandomFeatures(nn.Module):
    """Softmax attention approximated by positive random features; orthogonal directions, drawn once.

    Differences from the code released with CellLM:

    * Padded keys: left in the denominator there, so that the output depends on the length of the longest cell; here out
      of both numerator and denominator.
    * Shift of the keys' exponent: by a maximum over the minibatch there; here for each cell and head, so that no cell
      depends on another.
    * Directions: drawn again in training there; here once.

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
        # keys and values are summed over tokens first, (m, k) a head: linear in their number
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


KERNELS = ("exact", "performer")


class Attention(nn.Module):
    """Multi-head self-attention; the weights are computed explicitly only when they are asked for.

    ``head_width`` is ``width / n_heads`` unless it is given; ``kernel="performer"`` approximates the softmax.
    """

    def __init__(self, width: int, n_heads: int, *, head_width: int | None = None, kernel: str = "exact") -> None:
        super().__init__()
        if head_width is None and width % n_heads:
            raise ValueError(f"the width must be a multiple of the number of heads, found {width} and {n_heads}.")
        check_choice("attention", kernel, KERNELS)
        self.n_heads = n_heads
        inner = n_heads * (head_width or width // n_heads)
        self.qkv = nn.Linear(width, 3 * inner)
        self.out = nn.Linear(inner, width)
        self.features = RandomFeatures(inner // n_heads) if kernel == "performer" else None

    def forward(self, token_ntd: Tensor, real_nt: Tensor | None = None) -> Tensor:
        """(n, t, d) → (n, t, d); no token looks at those that are not ``real_nt``."""
        query, key, value = self._split(token_ntd)
        if self.features is not None:
            return self._merge(self.features(query, key, value, real_nt))
        mask = None if real_nt is None else real_nt[:, None, None, :]
        return self._merge(F.scaled_dot_product_attention(query, key, value, attn_mask=mask))

    def with_weights(self, token_ntd: Tensor) -> tuple[Tensor, Tensor]:
        """The output (n, t, d) and the softmax weights (n, heads, query t, key t)."""
        query, key, value = self._split(token_ntd)
        weights = (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(dim=-1)
        return self._merge(weights @ value), weights

    def _split(self, token_ntd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n, t, _ = token_ntd.shape
        # (n, t, 3 · heads · k) → (n, t, 3, heads, k) → (3, n, heads, t, k)
        qkv = self.qkv(token_ntd).view(n, t, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        return qkv[0], qkv[1], qkv[2]

    def _merge(self, heads_nhtk: Tensor) -> Tensor:
        # (n, heads, t, k) → (n, t, heads, k) → (n, t, heads · k)
        return self.out(heads_nhtk.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); dropout on what is added."""

    def __init__(
        self,
        width: int,
        n_heads: int,
        *,
        mlp_ratio: float = 4.0,
        dropout_rate: float = 0.0,
        head_width: int | None = None,
        attention: str = "exact",
    ) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(width)
        self.attention = Attention(width, n_heads, head_width=head_width, kernel=attention)
        self.norm_2 = nn.LayerNorm(width)
        hidden = int(width * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.dropout = nn.Dropout(dropout_rate)

    def forward(self, token_ntd: Tensor, real_nt: Tensor | None = None) -> Tensor:
        """(n, t, d) → (n, t, d)."""
        token_ntd = token_ntd + self.dropout(self.attention(self.norm_1(token_ntd), real_nt))
        return token_ntd + self.dropout(self.mlp(self.norm_2(token_ntd)))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """A stack of pre-norm blocks with a final layer norm (as the ViT of He et al. 2022).

    Parameters
    ----------
    width
        Token dimension d.
    n_layers, n_heads
        Number of blocks and of heads a block; ``width`` is a multiple of ``n_heads``.
    mlp_ratio
        Width of the blocks' MLPs over ``width``.
    dropout_rate
        Share of what a block adds that training sets to 0, in [0, 1). Attention weights have no dropout: kernels
        differ in how they draw it.
    head_width
        Width of a head, if not ``width / n_heads``.
    attention
        ``"exact"``, or ``"performer"``: :class:`RandomFeatures`.
    """

    def __init__(
        self,
        width: int,
        n_layers: int,
        n_heads: int,
        *,
        mlp_ratio: float = 4.0,
        dropout_rate: float = 0.0,
        head_width: int | None = None,
        attention: str = "exact",
    ) -> None:
        super().__init__()
        check_count("n_layers", n_layers)
        check_count("n_heads", n_heads)
        check_rate("dropout_rate", dropout_rate)
        options: dict[str, Any] = {"mlp_ratio": mlp_ratio, "dropout_rate": dropout_rate, "head_width": head_width}
        options["attention"] = attention
        self.blocks = nn.ModuleList(Block(width, n_heads, **options) for _ in range(n_layers))
        self.norm = nn.LayerNorm(width)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, token_ntd: Tensor, real_nt: Tensor | None = None) -> Tensor:
        """(n, t, d) → (n, t, d); padding, where ``real_nt`` is false, is seen by no other token."""
        return self.norm(self.unnormed(token_ntd, real_nt))  # type: ignore[no-any-return]

    def unnormed(self, token_ntd: Tensor, real_nt: Tensor | None = None) -> Tensor:
        """The blocks' output (n, t, d) before the final norm, in which the tokens' lengths still differ."""
        for block in self.blocks:
            token_ntd = block(token_ntd, real_nt)
        return token_ntd

    def attention(self, token_ntd: Tensor) -> Tensor:
        """Attention weights of the last block, mean over heads, (n, query t, key t); rows sum to 1."""
        for block in list(self.blocks)[:-1]:
            token_ntd = block(token_ntd)
        last = self.blocks[-1]
        assert isinstance(last, Block)
        _, weights = last.attention.with_weights(last.norm_1(token_ntd))
        return torch.mean(weights, dim=1)
