"""Cells of a data set drawn by a seed, split, and as log-expression."""

from __future__ import annotations

import numpy as np
from anndata import AnnData
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sc_ssl.data import library_sizes, log_expression, to_csr
from sc_ssl.pp import select_genes

#: types with fewer cells are left out: they could not be in every fold with neighbours left
MIN_CELLS_PER_TYPE = 10
TEST_SIZE = 0.2


def draw_cells(n_cells: int, seed: int, max_cells: int) -> np.ndarray:
    """Positions of at most so many cells, sorted."""
    return np.sort(np.random.default_rng(seed).permutation(n_cells)[:max_cells])


def subset(n_cells: int, at_most: int, seed: int) -> np.ndarray:
    """Positions of all cells, or of so many drawn from more, sorted."""
    if n_cells <= at_most:
        return np.arange(n_cells)
    return np.sort(np.random.default_rng(seed).choice(n_cells, at_most, replace=False))


def labelled(adata: AnnData, seed: int, max_cells: int) -> AnnData:
    """At most so many cells, of types that at least ten of them have; the same for every row of a seed."""
    adata = adata[draw_cells(adata.n_obs, seed, max_cells)]
    n_of_type = adata.obs["cell_type"].map(adata.obs["cell_type"].value_counts()).astype(int)
    return adata[(n_of_type >= MIN_CELLS_PER_TYPE).to_numpy()].copy()


def types(adata: AnnData) -> np.ndarray:
    """Names of the cells' types, (n,)."""
    return adata.obs["cell_type"].astype(str).to_numpy()


def split(adata: AnnData, seed: int, *, by_type: bool = True) -> tuple[AnnData, AnnData]:
    """Four fifths for training and a fifth for the test, of each type."""
    index = train_test_split(
        np.arange(adata.n_obs), test_size=TEST_SIZE, random_state=seed, stratify=types(adata) if by_type else None
    )
    train, test = (adata[np.sort(part)].copy() for part in index)
    return train, test


def variable_genes(
    adata: AnnData, *others: AnnData, n_genes: int | None = 2000, target_sum: float | None = None
) -> tuple[np.ndarray, ...]:
    """log1p of counts per ``target_sum``, (n, g), of the first cells' most variable genes, there and in others.

    ``n_genes=None`` takes all genes. The library size is that of all genes, by default divided by the first cells'
    median.
    """
    genes, found = adata.var_names if n_genes is None else select_genes(adata, n_genes), []
    for part in (adata, *others):
        counts = to_csr(part.X)
        size_n = np.maximum(library_sizes(part, counts), 1)
        target_sum = float(np.median(size_n)) if target_sum is None else target_sum
        logged_ng = log_expression(counts, size_n, target_sum)[:, part.var_names.get_indexer(genes)]
        found.append(logged_ng.toarray().astype(np.float32))
    return tuple(found)


def z_scores() -> tuple[StandardScaler, FunctionTransformer]:
    """Clipped at 10: a gene that hardly varies among the training cells may be anywhere in others."""
    return StandardScaler(), FunctionTransformer(np.clip, kw_args={"a_min": -10, "a_max": 10})
