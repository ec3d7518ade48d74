"""Principal components as a space common to all methods, and as their baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData
from scipy.sparse import csr_matrix, issparse

from sc_ssl.data import Cells, principal_components, read_counts, variable_genes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import spmatrix


def pca_space(counts: NDArray[Any] | spmatrix, *, n_top_genes: int = 2000, n_comps: int = 50) -> NDArray[np.float32]:
    """Principal components of log-normalised, z-scored variable genes: the usual scanpy analysis, nothing learned.

    Serves as the space in which clusters of different methods are compared, and as the baseline that an embedding
    should beat. Counts are scaled to the median library size and log1p-transformed; genes are chosen by dispersion
    (:func:`sc_ssl.pp.select_genes`), z-scored and clipped at 10. The same counts always give the same result.

    Parameters
    ----------
    counts
        (n_cells, n_genes) raw counts, dense or sparse. Not changed.
    n_top_genes
        Number of variable genes; all genes with counts are used if there are no more than that.
    n_comps
        Number of components; at most one less than the number of cells and of genes used.

    Returns
    -------
    (n_cells, n_comps) principal components.

    Raises
    ------
    ValueError
        If counts are negative, missing or infinite, a cell has none, or all cells are alike.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> sc_ssl.metrics.pca_space(adata.X, n_comps=20).shape
    (700, 20)
    """
    _check_counts(counts)
    found = read_counts(AnnData(csr_matrix(counts, dtype=np.float32)), takes=())
    cells = Cells.from_counts(found, variable_genes(found, n_top_genes), library_size=found.library_size)
    return principal_components(cells, n_comps=n_comps)


def _check_counts(counts: NDArray[Any] | spmatrix) -> None:
    if not hasattr(counts, "shape"):
        raise TypeError(f"counts is an array or a sparse matrix (n_cells, n_genes), found a {type(counts).__name__}.")
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
