"""Decoders of MaskSC: through a bottleneck, or a light transformer as in a masked autoencoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_ssl.nn import Transformer


class BottleneckDecoder(nn.Module):
    """Predicts a vector for every hidden token from the mean encoded token, through a bottleneck.

    Departs from the paper's decoder of transformer blocks over all tokens: what the cell's tokens know has to pass
    through ``n_latent`` numbers, so that they describe the cell and not the patch next to the hidden one.

    Parameters
    ----------
    n_tokens
        Tokens a cell t, without the global token.
    n_input
        Dimension of the encoded tokens.
    n_latent
        Width of the bottleneck.
    width
        Of the hidden layer.
    n_output
        Dimension of a prediction.
    """

    def __init__(self, n_tokens: int, n_input: int, *, n_latent: int, width: int, n_output: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(n_input, n_latent)
        self.expand = nn.Linear(n_latent, width)
        self.position = nn.Parameter(torch.randn(n_tokens, width) * 0.02)
        self.head = nn.Linear(width, n_output)
        for layer in (self.squeeze, self.expand, self.head):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, encoded_nvd: Tensor, visible_nv: Tensor, hidden_nm: Tensor) -> Tensor:
        """Predict the hidden tokens, (n, m, n_output), from the global and the visible ones, (n, 1 + v, n_input)."""
        latent = self.squeeze(encoded_nvd[:, 1:].mean(dim=1))
        return self.head(F.gelu(self.expand(latent)[:, None] + self.position[hidden_nm]))  # type: ignore[no-any-return]


class MaskedDecoder(nn.Module):
    """Predicts a vector for every hidden token from the encoded visible ones (He et al. 2022).

    Encoded tokens are projected, a learned mask token stands in for each hidden one, positions of the decoder's own
    are added, and a small transformer and a linear head give the prediction.

    Parameters
    ----------
    n_tokens
        Tokens a cell t, without the global token.
    n_input
        Dimension of the encoded tokens.
    width, n_layers, n_heads
        Of the decoder's transformer.
    n_output
        Dimension of a prediction.
    """

    def __init__(self, n_tokens: int, n_input: int, *, width: int, n_layers: int, n_heads: int, n_output: int) -> None:
        super().__init__()
        self.project = nn.Linear(n_input, width)
        self.mask_token = nn.Parameter(torch.randn(width) * 0.02)
        self.position = nn.Parameter(torch.randn(n_tokens, width) * 0.02)
        self.transformer = Transformer(width, n_layers, n_heads)
        self.head = nn.Linear(width, n_output)

    def forward(self, encoded_nvd: Tensor, visible_nv: Tensor, hidden_nm: Tensor) -> Tensor:
        """Predict the hidden tokens, (n, m, n_output), from the global and the visible ones, (n, 1 + v, n_input)."""
        encoded = self.project(encoded_nvd)
        visible = encoded[:, 1:] + self.position[visible_nv]
        hidden = self.mask_token + self.position[hidden_nm]
        # order does not matter to a transformer whose tokens carry their positions
        decoded = self.transformer(torch.cat([encoded[:, :1], visible, hidden], dim=1))
        return self.head(decoded[:, -hidden_nm.shape[1] :])  # type: ignore[no-any-return]
