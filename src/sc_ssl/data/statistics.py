"""Log-expression of the training cells, and the statistics of it that normalisation needs."""

from typing import NamedTuple

import numpy as np
from scipy import sparse

from .cells import Cells

#: more cells than this do not change how much a gene varies; evenly spread ones are taken
MAX_CELLS = 20_000
#: dispersion of the negative binomial that counts follow where nothing but chance differs (Lause et al. 2021)
THETA = 100.0


class GeneStatistics(NamedTuple):
    """What z-scores are made by.

    Attributes
    ----------
    target_sum
        Library size that cells are brought to, counts.
    mean_bg, sd_bg
        Mean and sd of each gene's log-expression, (1 + b, g): of all cells, then of each batch.
    """

    target_sum: float
    mean_bg: np.ndarray
    sd_bg: np.ndarray


def log_expression(counts_ng: sparse.csr_matrix, library_size_n: np.ndarray, target_sum: float) -> sparse.csr_matrix:
    """``log1p(target · x / library)`` of counts, (n, g) CSR float64 as sparse as they are."""
    per_library = np.repeat(target_sum / library_size_n, np.diff(counts_ng.indptr))
    value = np.log1p(counts_ng.data.astype(np.float64) * per_library)
    return sparse.csr_matrix((value, counts_ng.indices, counts_ng.indptr), shape=counts_ng.shape)


def gene_statistics(cells: Cells, *, n_batch: int, log_input: bool, target_sum: float | None = None) -> GeneStatistics:
    """Target library size, and each gene's mean and sd of log-expression, in one pass over the sparse counts.

    Returns
    -------
    The target is ``target_sum``, or the median library size (counts); a batch's mean and sd are those of its own cells, and
    of all cells where it has none. The sd of a gene that does not vary is 1.
    """
    target_sum = target_sum or float(np.median(cells.library_size))
    total, squares = np.zeros((n_batch, cells.n_genes)), np.zeros((n_batch, cells.n_genes))
    for rows, chunk in cells.chunks():
        row_of_value = np.repeat(np.arange(rows.start, rows.stop), np.diff(chunk.indptr))
        logged = chunk if log_input else log_expression(chunk, cells.library_size[rows], target_sum)
        value = logged.data.astype(np.float64)
        flat = cells.batch[row_of_value] * cells.n_genes + chunk.indices
        total += np.bincount(flat, value, minlength=total.size).reshape(total.shape)
        squares += np.bincount(flat, value**2, minlength=total.size).reshape(total.shape)
    n_b = np.bincount(cells.batch, minlength=n_batch)[:, None]
    n = np.concatenate([n_b.sum(keepdims=True), n_b])
    mean = np.concatenate([total.sum(axis=0, keepdims=True), total]) / np.maximum(n, 1)
    variance = np.concatenate([squares.sum(axis=0, keepdims=True), squares]) / np.maximum(n, 1) - mean**2
    sd = np.sqrt(np.clip(variance, 0, None))
    absent = n.ravel() == 0  # a batch without cells takes the statistics of all
    mean[absent], sd[absent] = mean[0], sd[0]
    return GeneStatistics(target_sum, mean, np.where(sd > 1e-6, sd, 1.0))


def gene_weights(cells: Cells) -> np.ndarray:
    """How informative each gene is: the fourth root of its variance beyond chance, with mean square 1; (g,).

    The variance is that of Pearson residuals, which is 1 for a gene whose counts differ between cells by sampling alone
    (Lause et al. 2021, Genome Biology 22:258, eq. 1 to 3, θ 100, clipped at √n); expected counts are those of the cell's
    own batch, so that a gene which differs between batches only gains nothing. The exponent lies between z-scores,
    where a gene of pure noise counts as much as a marker, and the residuals themselves, which a few genes dominate.
    """
    cells = cells.spread(MAX_CELLS)
    index = np.arange(cells.n_cells)
    batch, clip = cells.batch, len(index) ** 0.5
    squares = np.zeros(cells.n_genes)
    for code in np.unique(batch):
        of_batch = index[batch == code]
        total = sum(cells.rows(part).sum(axis=0) for part in _parts(of_batch))
        share_g = np.asarray(total, dtype=np.float64).ravel() / cells.library_size[of_batch].sum(dtype=np.float64)
        for part in _parts(of_batch):
            expected = cells.library_size[part][:, None] * share_g
            residual = (cells.rows(part).toarray() - expected) / np.sqrt(expected + expected**2 / THETA + 1e-12)
            squares += np.square(np.clip(residual, -clip, clip)).sum(axis=0)
    excess = np.maximum(squares / len(index) - 1, 0)
    if not excess.any():
        return np.ones(cells.n_genes)
    weight = excess**0.25
    return weight / np.sqrt(np.mean(weight**2))


def _parts(index: np.ndarray, size: int = 2048) -> list[np.ndarray]:
    return np.split(index, range(size, len(index), size))
