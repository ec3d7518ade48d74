"""A decoder that sees a cell through one narrow vector."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
