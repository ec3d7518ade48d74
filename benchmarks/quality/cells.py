"""Cells of a data set drawn by the seed, split, and as log-expression."""

from __future__ import annotations

import numpy as np
from anndata import AnnData
from scipy import sparse
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sc_ssl._keys import SIZE_FACTOR
from sc_ssl.data import Cells, log_expression
from sc_ssl.pp import select_genes

#: types with fewer cells are left out: they could not be in every fold with neighbours left
MIN_CELLS_PER_TYPE = 10
TEST_SIZE = 0.2


def draw_cells(n_cells: int, seed: int, max_cells: int) -> np.ndarray:
    """Positions of at most so many cells, sorted."""
    return np.sort(np.random.default_rng(seed).permutation(n_cells)[:max_cells])


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


def variable_genes(adata: AnnData, *others: AnnData, n_genes: int = 2000) -> tuple[np.ndarray, ...]:
    """Most variable genes of the first cells, (n, g), there and in others; log1p of counts per its median library."""
    genes, found, target_sum = select_genes(adata, n_genes), [], None
    for part in (adata, *others):
        # a key that is not there: the library size is that of all genes
        cells = Cells.from_anndata(AnnData(part.X, var=part.var[[]]), genes, size_factor_key=SIZE_FACTOR)
        target_sum = float(np.median(cells.size_factor)) if target_sum is None else target_sum
        found.append(log_expression(sparse.csr_matrix(cells.matrix), cells.size_factor, target_sum).toarray())
    return tuple(found)


def z_scores() -> tuple[StandardScaler, FunctionTransformer]:
    """Clipped at 10: a gene that hardly varies among the training cells may be anywhere in others."""
    return StandardScaler(), FunctionTransformer(np.clip, kw_args={"a_min": -10, "a_max": 10})
