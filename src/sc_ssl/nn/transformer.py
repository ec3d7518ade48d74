"""Pre-norm transformer blocks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head self-attention; the weights are computed explicitly only when they are asked for."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        if width % n_heads:
            raise ValueError(f"the width must be a multiple of the number of heads, found {width} and {n_heads}.")
        self.n_heads = n_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, token_ntd: Tensor) -> Tensor:
        """(n, t, d) → (n, t, d)."""
        query, key, value = self._split(token_ntd)
        return self._merge(F.scaled_dot_product_attention(query, key, value))

    def with_weights(self, token_ntd: Tensor) -> tuple[Tensor, Tensor]:
        """The output (n, t, d) and the softmax weights (n, heads, query t, key t)."""
        query, key, value = self._split(token_ntd)
        weights = (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(dim=-1)
        return self._merge(weights @ value), weights

    def _split(self, token_ntd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n, t, d = token_ntd.shape
        qkv = self.qkv(token_ntd).view(n, t, 3, self.n_heads, d // self.n_heads).permute(2, 0, 3, 1, 4)
        return qkv[0], qkv[1], qkv[2]

    def _merge(self, heads_nhtk: Tensor) -> Tensor:
        return self.out(heads_nhtk.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, n_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(width)
        self.attention = Attention(width, n_heads)
        self.norm_2 = nn.LayerNorm(width)
        hidden = int(width * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, token_ntd: Tensor) -> Tensor:
        """(n, t, d) → (n, t, d)."""
        token_ntd = token_ntd + self.attention(self.norm_1(token_ntd))
        return token_ntd + self.mlp(self.norm_2(token_ntd))  # type: ignore[no-any-return]


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
    """

    def __init__(self, width: int, n_layers: int, n_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, n_heads, mlp_ratio) for _ in range(n_layers))
        self.norm = nn.LayerNorm(width)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, token_ntd: Tensor) -> Tensor:
        """(n, t, d) → (n, t, d)."""
        for block in self.blocks:
            token_ntd = block(token_ntd)
        return self.norm(token_ntd)  # type: ignore[no-any-return]

    def attention(self, token_ntd: Tensor) -> Tensor:
        """Attention weights of the last block, mean over heads, (n, query t, key t); rows sum to 1."""
        for block in list(self.blocks)[:-1]:
            token_ntd = block(token_ntd)
        last = self.blocks[-1]
        assert isinstance(last, Block)
        _, weights = last.attention.with_weights(last.norm_1(token_ntd))
        return torch.mean(weights, dim=1)
