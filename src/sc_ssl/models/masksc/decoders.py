"""Decoders of MaskSC: through a bottleneck, or a light transformer as in a masked autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_ssl._checks import with_defaults
from sc_ssl.nn import Transformer

#: the defaults of ``decoder=`` of :class:`MaskSC`, for a bottleneck and for a transformer
BOTTLENECK = {"n_bottleneck": 32}
TRANSFORMER = {"width": 512, "n_layers": 8, "n_heads": 16}


def decoder_settings(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """All settings of a decoder, which is a transformer where one of a transformer's settings is given.

    Raises
    ------
    ValueError
        An unknown setting, or settings of both decoders.
    """
    is_transformer = isinstance(given, Mapping) and not TRANSFORMER.keys().isdisjoint(given)
    return with_defaults("decoder", given, TRANSFORMER if is_transformer else BOTTLENECK)


def build_decoder(
    settings: Mapping[str, Any], n_tokens: int, n_input: int, n_output: int
) -> BottleneckDecoder | MaskedDecoder:
    """The decoder of these settings; a bottleneck's hidden layer is as wide as the encoder's tokens."""
    if "n_bottleneck" in settings:
        return BottleneckDecoder(n_tokens, n_input, width=n_input, n_output=n_output, **settings)
    return MaskedDecoder(n_tokens, n_input, n_output=n_output, **settings)


class BottleneckDecoder(nn.Module):
    """Predicts a vector for every hidden token from the mean encoded token, through a bottleneck.

    The paper's decoder has transformer blocks over all tokens. Here what the tokens hold of a cell has to pass through
    ``n_bottleneck`` numbers, so that they describe the cell and not the patch next to the hidden one.

    Parameters
    ----------
    n_tokens
        Tokens a cell t, without the global token.
    n_input
        Dimension of the encoded tokens.
    n_bottleneck
        Width of the bottleneck.
    width
        Of the hidden layer.
    n_output
        Dimension of a prediction.
    """

    def __init__(self, n_tokens: int, n_input: int, *, n_bottleneck: int, width: int, n_output: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(n_input, n_bottleneck)
        self.expand = nn.Linear(n_bottleneck, width)
        self.position = nn.Parameter(torch.randn(n_tokens, width) * 0.02)
        self.head = nn.Linear(width, n_output)
        for layer in (self.squeeze, self.expand, self.head):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, encoded_nvd: Tensor, visible_nv: Tensor, hidden_nm: Tensor) -> Tensor:
        """Predict the hidden tokens, (n, m, n_output), from the global and the visible ones, (n, 1 + v, n_input)."""
        # the cell as one vector: (n, 1 + v, n_input) → (n, n_bottleneck), without the global token
        latent_nl = self.squeeze(encoded_nvd[:, 1:].mean(dim=1))
        # asked for at each hidden position: (n, 1, width) + (n, m, width)
        asked_nmw = self.expand(latent_nl)[:, None] + self.position[hidden_nm]
        return self.head(F.gelu(asked_nmw))  # type: ignore[no-any-return]


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
        # (n, 1 + v + m, d): order does not matter to a transformer whose tokens carry their positions
        decoded = self.transformer(torch.cat([encoded[:, :1], visible, hidden], dim=1))
        return self.head(decoded[:, -hidden_nm.shape[1] :])  # type: ignore[no-any-return]
