"""How much of a gene a cell expresses, as part of a token."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_ssl.views import Tokens, log2_bins, quantile_bins

Values = Literal["continuous", "quantile", "log2"]


class ValueEmbedding(nn.Module):
    """How much of a gene is there, joined to the gene's vector; and the way back, from an output to the value.

    The vector of a bin is added, as published. A z-score also multiplies the gene's vector: the sum of a cell's tokens
    is then, before anything is learnt, a projection of its expression, in which no gene outweighs the others; on
    principal components when the genes' vectors start as their loadings. Where no value is ever hidden (``hides``), there
    is neither a vector of [MASK] nor a way back.
    """

    def __init__(self, width: int, values: Values, n_bins: int, *, hides: bool = True) -> None:
        super().__init__()
        self.values, self.n_bins = values, n_bins
        if values == "continuous":
            last = nn.Linear(width, width)
            nn.init.zeros_(last.weight)  # what all tokens share outweighs, in their mean, what each gene says
            nn.init.zeros_(last.bias)
            self.encode: nn.Module = nn.Sequential(nn.Linear(1, width), nn.GELU(), last)
        else:
            self.encode = nn.Embedding(n_bins, width)
            nn.init.normal_(self.encode.weight, std=width**-0.5)
        if hides:
            self.mask_token = nn.Parameter(torch.randn(width) * width**-0.5)
            self.decode = nn.Linear(width, 1 if values == "continuous" else n_bins)

    def code(self, tokens: Tokens, z_ng: Tensor) -> Tensor:
        """What is encoded and predicted: entries of ``z_ng`` for the tokens' genes (n, t, 1), or bins (n, t)."""
        if self.values == "continuous":
            return F.pad(z_ng, (0, 1)).gather(1, tokens.gene_nt)[..., None]
        return (log2_bins if self.values == "log2" else quantile_bins)(tokens, self.n_bins)

    def forward(self, gene_ntd: Tensor, code: Tensor, hidden_nt: Tensor | None = None) -> Tensor:
        """Tokens (n, t, d) of genes' vectors and values; a hidden value is [MASK]'s."""
        value_ntd = self.encode(code)
        shown_ntd = gene_ntd * code + value_ntd if self.values == "continuous" else gene_ntd + value_ntd
        return (
            shown_ntd if hidden_nt is None else torch.where(hidden_nt[..., None], gene_ntd + self.mask_token, shown_ntd)
        )

    def error(self, h_md: Tensor, code_m: Tensor) -> Tensor:
        """Cross-entropy of the bins, or Huber's loss of z-scores, whose tails are long; summed."""
        if self.values == "continuous":
            return F.smooth_l1_loss(self.decode(h_md), code_m, reduction="sum")
        return F.cross_entropy(self.decode(h_md), code_m, reduction="sum")
