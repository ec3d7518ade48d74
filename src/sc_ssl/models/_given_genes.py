"""Vectors of genes that a model starts from: given ones, as of protein interactions, or those of its own cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from sc_ssl._logging import logger
from sc_ssl.data import evenly_spread, gene_loadings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from torch import Tensor

    from sc_ssl.data import Cells

#: more cells than this do not change the leading components; evenly spread ones are taken
MAX_CELLS = 20_000


def given_genes(gene_embeddings: str | pd.DataFrame, adata: AnnData, genes: Sequence[str]) -> Tensor:
    """Given vectors in the model's order of genes, (g, w), NaN for those that are lacking.

    ``gene_embeddings`` is a key of ``varm``, or a table with the genes' names as its index.
    """
    if isinstance(gene_embeddings, str):
        if gene_embeddings not in adata.varm:
            raise KeyError(f"{gene_embeddings!r} is not in adata.varm, which has {', '.join(adata.varm) or 'none'}.")
        gene_embeddings = pd.DataFrame(np.asarray(adata.varm[gene_embeddings]), index=adata.var_names)
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
    table = gene_embeddings.reindex(genes).to_numpy(dtype=np.float32, copy=True)
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


def start_loadings(cells: Cells, n_components: int, weight_g: Tensor, **options: Any) -> Tensor:
    """Loadings of the genes on components of the z-scores that tokens have, (g, n_components).

    ``options`` are those of :func:`sc_ssl.data.gene_loadings`.
    """
    some = cells.take(evenly_spread(cells.n_cells, MAX_CELLS))
    return torch.as_tensor(gene_loadings(some, n_comps=n_components, weight_g=weight_g.numpy(), **options))
