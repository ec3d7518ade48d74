from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scanpy as sc
from anndata import AnnData
from scipy.sparse import csr_matrix, issparse

from sc_ssl._threads import threads_kept

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import spmatrix


def pca_space(counts: NDArray[Any] | spmatrix, *, n_top_genes: int = 2000, n_comps: int = 50) -> NDArray[np.float32]:
    """Principal components of log-normalised, z-scored variable genes: the usual scanpy analysis, nothing learned.

    Serves as the space in which clusters of different methods are compared, and as the baseline that an embedding
    should beat. Counts are scaled to the median library size and log1p-transformed; genes are chosen by dispersion
    (``flavor="seurat"``), z-scored and clipped at 10. The same counts always give the same result.

    Parameters
    ----------
    counts
        (n_cells, n_genes) raw counts, dense or sparse. Not changed.
    n_top_genes
        Number of variable genes; all genes are used if there are no more than that.
    n_comps
        Number of components; at most one less than the number of cells and of genes used.

    Returns
    -------
    (n_cells, n_comps) principal components.

    Raises
    ------
    ValueError
        If counts are negative, missing or infinite, or a cell has none.
    """
    _check_counts(counts)
    with threads_kept():
        adata = AnnData(csr_matrix(counts, dtype=np.float32, copy=True))
        sc.pp.normalize_total(adata)
        sc.pp.log1p(adata)
        if n_top_genes < adata.n_vars:
            sc.pp.highly_variable_genes(adata, flavor="seurat", n_top_genes=n_top_genes)
            adata = adata[:, adata.var["highly_variable"]].copy()
        dense_ng = adata.X.toarray()  # scaling fills in the zeros anyway, and scanpy warns when it has to
        scaled_ng = sc.pp.scale(dense_ng, max_value=10)
        n_comps = min(n_comps, min(scaled_ng.shape) - 1)
        return np.asarray(sc.pp.pca(scaled_ng, n_comps=n_comps, svd_solver="arpack", random_state=0))


def _check_counts(counts: NDArray[Any] | spmatrix) -> None:
    if len(counts.shape) != 2 or min(counts.shape) < 2:
        raise ValueError(f"counts should have shape (n_cells, n_genes), at least 2 x 2, but has {counts.shape}.")
    value = np.asarray(counts.data if issparse(counts) else counts)
    if not np.isfinite(value).all() or (value < 0).any():
        raise ValueError("counts should be raw counts, but some are negative, NaN or infinite. Give raw counts.")
    empty = np.flatnonzero(np.ravel(counts.sum(axis=1)) == 0)
    if len(empty):
        raise ValueError(
            f"Each cell should have counts, but {len(empty)} of {counts.shape[0]} have none: "
            f"rows {', '.join(map(str, empty[:5]))}{', …' if len(empty) > 5 else ''}. "
            "Remove them first: sc.pp.filter_cells(adata, min_counts=1)."
        )
