"""Means of genes in each batch that do not depend on which cell types the batch holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from .cells import Cells
from .harmony import harmonize, warn_of_separate
from .principal_components import principal_components
from .rows import one_hot
from .statistics import GeneStatistics, gene_statistics, gene_weights, log_expression

if TYPE_CHECKING:
    from collections.abc import Sequence

#: more cells than this do not change the differences between batches; evenly spread ones are taken
MAX_CELLS = 20_000
#: components in which cells of all batches are compared
N_COMPONENTS = 30
#: pseudo-cells of no difference in each cluster and batch, so that few cells move a mean little
RIDGE = 1.0


def batch_statistics(
    cells: Cells, *, n_batch: int, log_input: bool, target_sum: float | None = None, names: Sequence[str] = ()
) -> GeneStatistics:
    """Target library size, and each gene's mean and sd of log-expression, in all cells and in each batch.

    A batch's mean is that of all cells plus the difference that the batch makes to like cells: Harmony's clusters, each of
    cells of many batches, compare them, and the differences within clusters are averaged over the clusters of all cells.
    The plain mean of a batch would take a type that only one batch holds for a difference between batches, and z-scores
    by it would push the other types apart. The sd of a gene is one for all batches, around these means. With the batches'
    ``names`` it is logged which have no like cells in others.

    Returns
    -------
    The target, ``target_sum`` or the median library size (counts); mean and sd (1 + n_batch, g), first over all cells, then
    of each batch. The sd of a gene that does not vary is 1.
    """
    plain = gene_statistics(cells, n_batch=n_batch, log_input=log_input, target_sum=target_sum)
    if n_batch < 2:
        return plain
    target_sum, mean_bg, sd_bg = plain
    some = cells.spread(MAX_CELLS)
    weight_g = None if log_input else gene_weights(some)
    z_nd = principal_components(some, n_comps=N_COMPONENTS, log_input=log_input, weight_g=weight_g)
    share_nk = harmonize(z_nd, some.batch).share_nk
    if names:
        warn_of_separate(share_nk, some.batch, names)
    effect_bg = _batch_effects(some, share_nk, n_batch=n_batch, target_sum=target_sum, log_input=log_input)
    rate_b = np.bincount(cells.batch, minlength=n_batch) / cells.n_cells
    corrected_bg = mean_bg[0] + effect_bg - rate_b @ effect_bg
    # E (x − m)² of a batch around another mean m: its variance and the square of what lies between the means
    variance_g = rate_b @ (sd_bg[1:] ** 2 + (mean_bg[1:] - corrected_bg) ** 2)
    varies_g = mean_bg[0] > 0
    sd_g = np.where(varies_g & (variance_g > 1e-12), np.sqrt(variance_g), 1.0)
    return GeneStatistics(target_sum, np.vstack([mean_bg[0], corrected_bg]), np.tile(sd_g, (1 + n_batch, 1)))


def _batch_effects(
    cells: Cells, share_nk: np.ndarray, *, n_batch: int, target_sum: float, log_input: bool
) -> np.ndarray:
    """How far like cells of each batch lie from those of all, in log-expression, (b, g).

    In each cluster a ridge regression on an intercept and the batch; the mean of its coefficients over clusters, weighed by
    their sizes.
    """
    n_clusters = share_nk.shape[1]
    member_nb = one_hot(cells.batch, n_batch)
    n_bk, rate_k = np.asarray(member_nb.T @ share_nk), share_nk.mean(axis=0)
    shrunk_bk = n_bk / (n_bk + RIDGE)
    # all that is needed of the cells are weighted sums of their expression, made in one pass over the sparse counts: of
    # clusters (k), of clusters with batches shrunk (k), and of batches with clusters weighed (b)
    per_cell_n = (share_nk * (rate_k / (n_bk + RIDGE))[cells.batch]).sum(axis=1)
    weights = sparse.csr_matrix(np.hstack([share_nk, share_nk * shrunk_bk[cells.batch]]))
    weights = sparse.hstack([weights, member_nb.multiply(per_cell_n[:, None])], format="csr")
    sums = np.zeros((weights.shape[1], cells.n_genes))
    for rows, chunk in cells.chunks():
        log_ng = chunk if log_input else log_expression(chunk, cells.library_size[rows], target_sum)
        sums += (weights[rows].T @ log_ng).toarray()
    of_cluster_kg, shrunk_kg, of_batch_bg = np.split(sums, [n_clusters, 2 * n_clusters])
    free_k = n_bk.sum(axis=0) - (shrunk_bk * n_bk).sum(axis=0)
    common_kg = (of_cluster_kg - shrunk_kg) / np.maximum(free_k, 1e-12)[:, None]
    return of_batch_bg - (rate_k * shrunk_bk) @ common_kg
