"""Blood cells that come with scanpy, for examples and tests."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import scanpy as sc
from scipy.sparse import csr_matrix, issparse


def pbmc68k_reduced() -> ad.AnnData:
    """Peripheral blood cells of one healthy donor, 700 cells x 765 genes, 10 types (10x 3' v1).

    The subset of the 68k PBMC data that the installed scanpy carries, so it needs no network. scanpy stores it
    normalised; here the raw counts are recovered from ``.raw``.

    Returns
    -------
    ``X``: raw counts, CSR float32. ``obs["bulk_labels"]`` and, the same, ``obs["cell_type"]``.

    Notes
    -----
    ``.raw`` holds log1p of the counts divided by a size factor. After ``expm1`` a count of 1 is the smallest value
    of its cell, so dividing by it and rounding returns the counts; the counts of a cell
    without a single 1 would come out divided by its smallest count. The labels were assigned to each cell by its
    correlation with profiles of sorted populations; sub-types of T cells are not reliable. Only 765 variable genes,
    so the library size is that of those genes.

    Source: :func:`scanpy.datasets.pbmc68k_reduced`, BSD-3-Clause; the counts are public 10x Genomics data.

    References
    ----------
    Zheng et al. (2017), Massively parallel digital transcriptional profiling of single cells,
    Nature Communications 8, 14049.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> adata.shape, sc_ssl.pp.check_counts(adata)
    ((700, 765), 'counts')
    """
    reduced = sc.datasets.pbmc68k_reduced()
    obs = reduced.obs[["bulk_labels"]].assign(cell_type=reduced.obs["bulk_labels"])
    return ad.AnnData(_counts_from_log(reduced.raw.X), obs=obs, var=reduced.raw.var[[]].copy())


def _counts_from_log(log_ng: Any) -> csr_matrix:
    dense_ng = np.expm1((log_ng.toarray() if issparse(log_ng) else np.asarray(log_ng)).astype(np.float64))
    one_n1 = np.where(dense_ng > 0, dense_ng, np.inf).min(axis=1, keepdims=True)
    return csr_matrix(np.rint(dense_ng / one_n1), dtype=np.float32)
