"""What a gene is, whatever its expression: a vector for each gene, learnt or given."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GeneTable(nn.Module):
    """A vector for each gene; position g, where a token stands for no gene, gives 0.

    Given vectors, at a median length of 1, go through a learnt linear map to the width of the tokens. Genes that they
    lack get learnt vectors; where these start from loadings all genes have one, to which the map, from 0 on, adds.

    Parameters
    ----------
    n_genes, width
        g and d.
    n_given
        Width w of vectors that are given; 0 learns all.
    frozen
        Given vectors stay as they are.
    """

    known_g: Tensor
    own_g: Tensor
    given_gw: Tensor

    def __init__(self, n_genes: int, width: int, *, n_given: int = 0, frozen: bool = True) -> None:
        super().__init__()
        self.learned = nn.Embedding(n_genes + 1, width, padding_idx=n_genes)
        nn.init.normal_(self.learned.weight, std=width**-0.5)
        with torch.no_grad():
            self.learned.weight[n_genes] = 0
        self.n_given = n_given
        if n_given:
            self.map = nn.Linear(n_given, width, bias=False)
            nn.init.normal_(self.map.weight, std=width**-0.5)
            self.register_buffer("known_g", torch.zeros(n_genes + 1, 1, dtype=torch.bool))
            self.register_buffer("own_g", torch.ones(n_genes + 1, 1, dtype=torch.bool))
            given_gw = torch.zeros(n_genes + 1, n_given)
            if frozen:
                self.register_buffer("given_gw", given_gw)
            else:
                self.given_gw = nn.Parameter(given_gw)

    @torch.no_grad()
    def give(self, given_gw: Tensor) -> None:
        """Take vectors of the genes, (g, w); rows with NaN are genes that are lacking."""
        known_g = torch.isfinite(given_gw).all(dim=1)
        self.known_g[:-1, 0], self.own_g[:-1, 0] = known_g, ~known_g
        length = given_gw[known_g].norm(dim=1).median().clamp(min=1e-12)
        self.given_gw[:-1] = torch.where(known_g[:, None], given_gw / length, 0.0)

    @torch.no_grad()
    def start_from(self, loading_gk: Tensor) -> None:
        """Let learnt vectors start as these, (g, k) with k ≤ d, turned at random, of the same length as random ones.

        Turned, so that no unit of the tokens stands for one component alone.
        """
        turn_dk = torch.linalg.qr(torch.randn(self.learned.embedding_dim, loading_gk.shape[1])).Q
        vector_gd = loading_gk @ turn_dk.T
        self.learned.weight[:-1] = vector_gd / vector_gd.norm() * len(vector_gd) ** 0.5
        if self.n_given:
            self.own_g.fill_(True)
            self.map.weight.zero_()

    def all(self) -> Tensor:
        """The vectors of all genes, (g, d)."""
        return self.forward(torch.arange(len(self.learned.weight) - 1, device=self.learned.weight.device)[None])[0]

    def forward(self, gene_nt: Tensor) -> Tensor:
        """(n, t) → (n, t, d)."""
        vector_ntd: Tensor = self.learned(gene_nt)
        if self.n_given:
            vector_ntd = self.own_g[gene_nt] * vector_ntd + self.known_g[gene_nt] * self.map(self.given_gw[gene_nt])
        return vector_ntd
