"""The input of CellLM's transformer: a vector for each gene, and its expression joined to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_ssl._logging import logger
from sc_ssl._names import as_names
from sc_ssl.data import gene_loadings, locate_genes

from .tokens import Tokens, Values, log2_bins, quantile_bins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from sc_ssl.data import Cells


class GeneTable(nn.Module):
    """A vector for each gene; position g, where a token stands for no gene, gives 0.

    Given vectors are scaled to a median length of 1 and mapped linearly to the width of the tokens. Genes without a
    given vector have a learnt one. Where learnt vectors start from loadings, all genes have one, to which the map of
    the given ones, which then starts at 0, adds.

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
        self.n_genes, self.width = n_genes, width
        self.learned = nn.Embedding(n_genes + 1, width, padding_idx=n_genes)
        nn.init.normal_(self.learned.weight, std=width**-0.5)
        with torch.no_grad():
            self.learned.weight[n_genes] = 0
        self.n_given = n_given
        if n_given:
            self.map = nn.Linear(n_given, width, bias=False)
            nn.init.normal_(self.map.weight, std=width**-0.5)
            # which genes have a given vector, and which a learnt one; both, where learnt ones start from loadings
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
        # k orthonormal columns: distances between the vectors of genes stay as those between their loadings
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


class ValueEmbedding(nn.Module):
    """The expression of a gene joined to the gene's vector; and the way back, from a token's output to the value.

    The vector of a bin is added, as published. A z-score also multiplies the gene's vector: the sum of a cell's tokens
    is then, before anything is learnt, a projection of its expression, in which no gene outweighs the others; on
    principal components when the genes' vectors start as their loadings.

    Parameters
    ----------
    width
        d.
    values, n_bins
        As of :class:`Tokenizer`.
    hides
        Some values are hidden and predicted from their tokens. Without, there is neither a vector of [MASK] nor a
        way back.
    """

    def __init__(self, width: int, values: Values, n_bins: int, *, hides: bool = True) -> None:
        super().__init__()
        self.values, self.n_bins = values, n_bins
        if values == "continuous":
            last = nn.Linear(width, width)
            # 0 at first: what all tokens share would outweigh, in their mean, how they differ
            nn.init.zeros_(last.weight)
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
            # a column of 0 more, which padding (position g) reads
            return F.pad(z_ng, (0, 1)).gather(1, tokens.gene_nt)[..., None]
        return (log2_bins if self.values == "log2" else quantile_bins)(tokens, self.n_bins)

    def forward(self, gene_ntd: Tensor, code: Tensor, hidden_nt: Tensor | None = None) -> Tensor:
        """Tokens (n, t, d) of genes' vectors and values; [MASK] takes the place of a hidden value."""
        value_ntd = self.encode(code)
        token_ntd: Tensor = gene_ntd * code + value_ntd if self.values == "continuous" else gene_ntd + value_ntd
        if hidden_nt is None:
            return token_ntd
        return torch.where(hidden_nt[..., None], gene_ntd + self.mask_token, token_ntd)

    def error(self, h_md: Tensor, code_m: Tensor) -> Tensor:
        """Cross-entropy of the bins, or Huber's loss of z-scores, whose tails are long; summed over m tokens."""
        if self.values == "continuous":
            return F.smooth_l1_loss(self.decode(h_md), code_m, reduction="sum")
        return F.cross_entropy(self.decode(h_md), code_m, reduction="sum")


#: more cells than this do not change the leading components; evenly spread ones are taken
MAX_CELLS = 20_000


def given_genes(gene_embeddings: str | pd.DataFrame, adata: AnnData, genes: Sequence[str]) -> Tensor:
    """Given vectors in the model's order of genes, (g, w), NaN for those that are lacking.

    Parameters
    ----------
    gene_embeddings
        A key of ``varm``, or a table with the genes' names as its index.
    adata, genes
        The model's cells and genes.

    Raises
    ------
    KeyError
        No such key in ``varm``.
    TypeError
        Neither a key nor a table.
    ValueError
        Two vectors for a gene; columns that are not numbers; none of the model's genes.
    """
    if isinstance(gene_embeddings, str):
        if gene_embeddings not in adata.varm:
            raise KeyError(f"{gene_embeddings!r} is not in adata.varm, which has {', '.join(adata.varm) or 'none'}.")
        gene_embeddings = pd.DataFrame(np.asarray(adata.varm[gene_embeddings]), index=adata.var_names)
    _check_table(gene_embeddings)
    position_g = locate_genes(pd.Index(as_names(gene_embeddings.index), dtype=object), genes, log=True)
    table = gene_embeddings.to_numpy(dtype=np.float32)[position_g]
    table[position_g < 0] = np.nan
    lacking = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if len(lacking) == len(table):
        raise ValueError(
            f"gene_embeddings has none of the model's genes, such as {genes[0]!r}; its index has names "
            f"such as {gene_embeddings.index[0]!r}. Use the same kind of gene names."
        )
    if len(lacking):
        examples = ", ".join(repr(genes[g]) for g in lacking[:3])
        logger.warning("%d of %d genes have no given vector and learn one: %s …", len(lacking), len(table), examples)
    return torch.as_tensor(table)


def _check_table(gene_embeddings: object) -> None:
    """Refuse what is no table of one numeric vector a gene."""
    if not isinstance(gene_embeddings, pd.DataFrame):
        raise TypeError(
            "gene_embeddings is a key of varm, or a table with the genes' names as its index, found a "
            f"{type(gene_embeddings).__name__}; make it a pd.DataFrame(vectors, index=genes)."
        )
    if not gene_embeddings.index.is_unique:
        twice = gene_embeddings.index[gene_embeddings.index.duplicated()][0]
        raise ValueError(f"gene_embeddings has one vector for each gene, found more for {twice!r}.")
    words = [name for name, dtype in gene_embeddings.dtypes.items() if not pd.api.types.is_numeric_dtype(dtype)]
    if words:
        raise ValueError(f"gene_embeddings holds numbers, found others in its column {words[0]!r}; leave it out.")


def start_loadings(cells: Cells, n_components: int, weight_g: Tensor, **options: Any) -> Tensor:
    """Loadings of the genes on components of the z-scores that tokens have, (g, n_components).

    ``options`` are those of :func:`sc_ssl.data.gene_loadings`.
    """
    some = cells.spread(MAX_CELLS)
    return torch.as_tensor(gene_loadings(some, n_comps=n_components, weight_g=weight_g.numpy(), **options))
