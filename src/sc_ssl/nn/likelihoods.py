"""From a cell's embedding to the distribution of its counts."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .mlp import MLP

#: expected counts (before the size factor) and dispersions stay within these, as in the authors' code of scDeepCluster
MEAN_RANGE = (1e-5, 1e6)
DISPERSION_RANGE = (1e-4, 1e4)


class CountParameters(NamedTuple):
    """Mean μ (n, g), dispersion θ (g,) or (n, g), and logits of the zero inflation π (n, g), ``None`` without."""

    mean_ng: Tensor
    dispersion: Tensor
    zero_logits_ng: Tensor | None


class CountDecoder(nn.Module):
    """An MLP to the parameters of a (zero-inflated) negative binomial distribution of each gene's counts.

    ``μ = size factor · exp(·)``, ``θ = softplus(·)`` and the logits of π are parts of one linear output. Departs from
    scDeepCluster and scziDesk, whose dispersion differs between cells: by default each gene has one, which is less work
    and, in short runs on two development sets, was better once and equal once.

    Parameters
    ----------
    n_latent
        Dimension of the embedding.
    n_hidden
        Widths of the hidden layers.
    n_genes
        Number of genes g.
    norm
        Of the hidden layers, see :class:`MLP`.
    dispersion_per
        ``"gene"``, or ``"entry"``: predicted for each gene of each cell (paper).
    zero_inflated
        Also predict π.
    """

    def __init__(
        self,
        n_latent: int,
        n_hidden: Sequence[int],
        n_genes: int,
        *,
        norm: str = "batch",
        dispersion_per: str = "gene",
        zero_inflated: bool = True,
    ) -> None:
        super().__init__()
        if dispersion_per not in ("gene", "entry"):
            raise ValueError(f"dispersion_per is 'gene' or 'entry', found {dispersion_per!r}.")
        self.n_genes = n_genes
        self.zero_inflated = zero_inflated
        n_outputs = 1 + int(dispersion_per == "entry") + int(zero_inflated)
        self.network = MLP(n_latent, n_hidden, n_outputs * n_genes, norm=norm)
        self.raw_dispersion_g = nn.Parameter(torch.zeros(n_genes)) if dispersion_per == "gene" else None

    def forward(self, z_nd: Tensor, size_factor_n1: Tensor) -> CountParameters:
        """Parameters of the counts of cells with these embeddings and size factors (n, 1), around 1."""
        raw_mean_ng, *others = self.network(z_nd).split(self.n_genes, dim=1)
        low, high = map(math.log, MEAN_RANGE)
        mean_ng = raw_mean_ng.clamp(low, high).exp() * size_factor_n1
        zero_logits_ng = others.pop() if self.zero_inflated else None
        raw_dispersion = others[0] if self.raw_dispersion_g is None else self.raw_dispersion_g
        return CountParameters(mean_ng, F.softplus(raw_dispersion).clamp(*DISPERSION_RANGE), zero_logits_ng)

    @torch.no_grad()
    def start_at(self, mean_g: Tensor) -> None:
        """Let every cell have these expected counts before training, which then learns how cells differ."""
        last = self.network[-1]
        assert isinstance(last, nn.Linear)
        last.bias[: self.n_genes] = mean_g.clamp(*MEAN_RANGE).log()
