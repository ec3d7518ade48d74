"""From a cell's embedding to the distribution of its counts."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .mlp import MLP

#: expected counts (before the size factor) and dispersions stay within these, as in the authors' code of scDeepCluster
MEAN_RANGE = (1e-5, 1e6)
DISPERSION_RANGE = (1e-4, 1e4)


class CountParameters(NamedTuple):
    """Mean μ (n, g); dispersion θ (g,) or (n, g), ``None`` for Poisson; logits of the zero inflation π (n, g) or ``None``."""

    mean_ng: Tensor
    dispersion: Tensor | None
    zero_logits_ng: Tensor | None

    @property
    def expected_ng(self) -> Tensor:
        """Expected counts: μ, or (1 − π) μ."""
        return self.mean_ng if self.zero_logits_ng is None else self.mean_ng * (-self.zero_logits_ng).sigmoid()


class CountDecoder(nn.Module):
    """An MLP to the parameters of a Poisson or (zero-inflated) negative binomial distribution of each gene's counts.

    ``μ = size factor · exp(·)``, ``θ = softplus(·)`` and the logits of π are parts of one linear output. In
    scDeepCluster and scziDesk the dispersion differs between cells; here by default each gene has one, which is less work
    and, in short runs on two development sets, was better once and equal once.

    Parameters
    ----------
    n_latent
        Dimension of the embedding.
    n_hidden
        Widths of the hidden layers.
    n_genes
        Number of genes g.
    dispersion_per
        ``"gene"``; ``"entry"``: predicted for each gene of each cell (paper); ``None``: Poisson.
    zero_inflated
        Also predict π.
    **mlp_kwargs
        Of the hidden layers, see :class:`MLP`.
    """

    def __init__(
        self,
        n_latent: int,
        n_hidden: Sequence[int],
        n_genes: int,
        *,
        dispersion_per: str | None = "gene",
        zero_inflated: bool = True,
        **mlp_kwargs: Any,
    ) -> None:
        super().__init__()
        if dispersion_per not in ("gene", "entry", None):
            raise ValueError(f"dispersion_per is 'gene' or 'entry', found {dispersion_per!r}.")
        if dispersion_per is None and zero_inflated:
            raise ValueError("a Poisson distribution (dispersion_per=None) is not zero-inflated here.")
        self.n_genes = n_genes
        self.zero_inflated = zero_inflated
        n_outputs = 1 + int(dispersion_per == "entry") + int(zero_inflated)
        self.network = MLP(n_latent, n_hidden, n_outputs * n_genes, **mlp_kwargs)
        self.dispersion_per = dispersion_per
        self.raw_dispersion_g = nn.Parameter(torch.zeros(n_genes)) if dispersion_per == "gene" else None

    def forward(self, z_nd: Tensor, size_factor_n1: Tensor) -> CountParameters:
        """Parameters of the counts of cells with these embeddings and size factors (library size over a usual one), (n, 1)."""
        # (n, outputs · g) → one (n, g) each: log μ, then θ where it is predicted, then the logits of π
        raw_mean_ng, *others = self.network(z_nd).split(self.n_genes, dim=1)
        low, high = map(math.log, MEAN_RANGE)
        mean_ng = raw_mean_ng.clamp(low, high).exp() * size_factor_n1
        zero_logits_ng = others.pop() if self.zero_inflated else None
        if self.dispersion_per is None:
            return CountParameters(mean_ng, None, None)
        raw_dispersion = others[0] if self.raw_dispersion_g is None else self.raw_dispersion_g
        return CountParameters(mean_ng, F.softplus(raw_dispersion).clamp(*DISPERSION_RANGE), zero_logits_ng)

    @torch.no_grad()
    def start_at(self, mean_g: Tensor) -> None:
        """Let every cell have these expected counts before training, which then learns how cells differ."""
        last = self.network[-1]
        assert isinstance(last, nn.Linear)
        last.bias[: self.n_genes] = mean_g.clamp(*MEAN_RANGE).log()
