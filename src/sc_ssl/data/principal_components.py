"""Principal components of cells' clipped z-scores, from counts that stay sparse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, svds
from sklearn.utils.extmath import svd_flip

from .rows import one_hot
from .statistics import GeneStatistics, gene_statistics, log_expression

if TYPE_CHECKING:
    from .cells import Cells


def principal_components(
    cells: Cells,
    *,
    n_comps: int,
    statistics: GeneStatistics | None = None,
    log_input: bool = False,
    clip: float = 10.0,
    weight_g: np.ndarray | None = None,
) -> np.ndarray:
    """Cells on the first principal components of ``clip((log1p(target · x / library) − mean) / sd)``.

    The z-scores are those of :class:`sc_ssl.nn.LogNormalize`. That matrix is never made: clipping is not linear, but all
    zeros of a gene in a batch have the same z-score, so the clipped z-scores are exactly S + that of the zeros, S as sparse
    as the counts. Lanczos iterations need only products with the two.

    Parameters
    ----------
    cells
        n cells × g genes, counts.
    n_comps
        Number of components; one less than the number of cells or of genes when more are asked for.
    statistics
        Means and sds of each batch, as of :func:`batch_statistics`; by default those of all cells together.
    log_input
        The cells are log-normalised already.
    clip
        Largest absolute z-score.
    weight_g
        What clipped z-scores are multiplied by, (g,); see :func:`gene_weights`.

    Returns
    -------
    (n, n_comps) float32, by falling variance, signs fixed; the same cells always give the same bits on one CPU.

    Raises
    ------
    ValueError
        All cells are alike.
    """
    u, s, _ = _singular(cells, n_comps, statistics, log_input, clip, weight_g)
    return (u * s).astype(np.float32)


def gene_loadings(cells: Cells, *, n_comps: int, weight_g: np.ndarray | None = None, **options: Any) -> np.ndarray:
    """What each gene adds to the components of :func:`principal_components`, (g, n_comps) float32, columns of length 1.

    A cell's components are the sum of its genes' (weighed, centred) z-scores times their loadings. The parameters are
    those of :func:`principal_components`.
    """
    options = {"statistics": None, "log_input": False, "clip": 10.0} | options
    _, _, vt = _singular(cells, n_comps, options["statistics"], options["log_input"], options["clip"], weight_g)
    return vt.T.astype(np.float32)


def _singular(
    cells: Cells,
    n_comps: int,
    statistics: GeneStatistics | None,
    log_input: bool,
    clip: float,
    weight_g: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Singular vectors and values of the centred z-scores, by falling value, signs fixed."""
    # weights multiply both parts of the z-scores: S, which stays sparse, and that of the zeros
    if statistics is None:
        cells = cells.of_one_batch()
        statistics = gene_statistics(cells, n_batch=1, log_input=log_input)
    shift_ng, zero_bg = _z_scores(cells, statistics, log_input=log_input, clip=clip)
    if weight_g is not None:
        shift_ng, zero_bg = (shift_ng @ sparse.diags(weight_g)).tocsr(), zero_bg * weight_g
    # a random direction that the matrix maps to nothing: no gene varies, and Lanczos would return noise
    centred = _centred(shift_ng, zero_bg, cells.batch)
    rng = np.random.default_rng(0)
    if np.abs(centred.matvec(rng.normal(size=shift_ng.shape[1]))).max() < 1e-6:
        raise ValueError(f"no gene varies: all {cells.n_cells} cells are alike, and have no principal components.")
    # a fixed start makes the iteration repeatable; signs are free in an SVD, and are fixed by the largest entry
    start = rng.normal(size=min(shift_ng.shape))
    u, s, vt = svds(centred, k=min(n_comps, min(shift_ng.shape) - 1), v0=start, solver="arpack")
    u, vt = svd_flip(u[:, ::-1], vt[::-1])
    return u, s[::-1], vt


def _z_scores(
    cells: Cells, statistics: GeneStatistics, *, log_input: bool, clip: float
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """How far each value's clipped z-score lies from that of a zero, (n, g) CSR; and that of a zero, (b, g)."""
    target_sum, mean_bg, sd_bg = statistics
    mean_bg, sd_bg = mean_bg[1:], sd_bg[1:]  # row 0 is that of all cells together
    zero_bg = np.clip(-mean_bg / sd_bg, -clip, clip)
    shifts = []
    for rows, chunk in cells.chunks():
        # the values of a chunk of cells in CSR order, with the batch b and the gene g of each
        log_ng = chunk if log_input else log_expression(chunk, cells.library_size[rows], target_sum)
        b, g = np.repeat(cells.batch[rows], np.diff(chunk.indptr)), chunk.indices
        shift = np.clip((log_ng.data - mean_bg[b, g]) / sd_bg[b, g], -clip, clip) - zero_bg[b, g]
        shifts.append(sparse.csr_matrix((shift, chunk.indices, chunk.indptr), shape=chunk.shape))
    return sparse.vstack(shifts, format="csr"), zero_bg


def _centred(shift_ng: sparse.csr_matrix, zero_bg: np.ndarray, batch_n: np.ndarray) -> LinearOperator:
    """Products with S + the zeros' z-scores − the mean of each column."""
    # Z = S + P·z₀, with z₀ (b, g) the zeros' z-scores and P (n, b) the cells' batches; less its column means. A product
    # costs as much as one with the counts.
    n_cells, n_batch = len(batch_n), len(zero_bg)
    in_batch_bn = one_hot(batch_n, n_batch).T.tocsr()
    shift_gn = shift_ng.T.tocsr()
    mean_g = (np.ravel(shift_gn.sum(axis=1)) + np.bincount(batch_n, minlength=n_batch) @ zero_bg) / n_cells
    return LinearOperator(
        shape=shift_ng.shape,
        dtype=np.float64,
        matvec=lambda v_g: shift_ng @ v_g.ravel() + (zero_bg @ v_g.ravel())[batch_n] - mean_g @ v_g.ravel(),
        rmatvec=lambda u_n: shift_gn @ u_n.ravel() + (in_batch_bn @ u_n.ravel()) @ zero_bg - mean_g * u_n.sum(),
    )
