"""Harmony (Korsunsky et al. 2019): components of cells from several batches brought into one space."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from sklearn.cluster import KMeans

from sc_ssl._logging import logger

from .rows import one_hot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scipy import sparse

#: the defaults of the authors' package: rounds of clustering and correction, and where both stop
MAX_ROUNDS, ROUND_TOLERANCE = 10, 1e-4
MAX_STEPS, STEP_TOLERANCE = 20, 1e-5
#: share of the cells whose assignment is updated at a time
BLOCK = 0.05
#: θ, of the penalty on clusters of few batches; σ, the width of the soft clusters
DIVERSITY_WEIGHT, SIGMA = 2.0, 0.1
#: λ, of the correction: the larger, the less small groups of cells are moved
RIDGE = 1.0
#: of the first centres and of the order of updates
SEED = 0
#: largest number of clusters, and cells a cluster below it
MAX_CLUSTERS, CELLS_PER_CLUSTER = 100, 30
#: of the cells that would be beside a batch's if all were mixed, the share below which it has none like those of others
SEPARATE = 0.2


class Harmonized(NamedTuple):
    """What :func:`harmonize` finds.

    Attributes
    ----------
    z_nd
        The components, corrected, (n, d) float64.
    share_nk
        Share of each cell in each cluster, (n, k); rows sum to 1. As far as the cells allow, a cluster holds cells of every
        batch in proportion to the batches' sizes.
    """

    z_nd: np.ndarray
    share_nk: np.ndarray


def harmonize(z_nd: np.ndarray, batch_n: np.ndarray) -> Harmonized:
    """Soft clusters with cells of all batches in each, and from each cluster the mean difference of its batches taken off.

    Cells are clustered by cosine, with a penalty on clusters that hold more cells of a batch than the batch's size lets
    expect; then, in each cluster, the batches' means are brought together by a ridge regression. Both are repeated. Since
    only cells of one cluster are compared, batches may differ in composition. The same cells always give the same bits on
    one CPU.

    Parameters
    ----------
    z_nd
        Components of cells, (n, d).
    batch_n
        Batch of each cell, codes from 0, (n,).

    References
    ----------
    Korsunsky et al. (2019), Fast, sensitive and accurate integration of single-cell data with Harmony, Nature Methods
    16:1289, Algorithm 1 to 3.
    """
    z_nd = np.asarray(z_nd, np.float64)
    member_nb = one_hot(batch_n)
    unit_nd = _unit(z_nd)
    n_clusters = int(np.clip(round(len(z_nd) / CELLS_PER_CLUSTER), 2, min(MAX_CLUSTERS, len(z_nd))))
    center_kd = _unit(KMeans(n_clusters, n_init=1, random_state=SEED).fit(unit_nd).cluster_centers_)
    share_nk = np.exp(-2 * (1 - unit_nd @ center_kd.T) / SIGMA)
    share_nk /= share_nk.sum(axis=1, keepdims=True)
    rng = np.random.default_rng(SEED)
    corrected_nd, last = z_nd, np.inf
    for _ in range(MAX_ROUNDS):
        objective = _cluster(unit_nd, share_nk, batch_n, member_nb, rng)
        corrected_nd = _correct(z_nd, share_nk, batch_n, member_nb)
        unit_nd = _unit(corrected_nd)
        if abs(last - objective) < ROUND_TOLERANCE * abs(objective):
            break
        last = objective
    return Harmonized(corrected_nd, share_nk)


def warn_of_separate(share_nk: np.ndarray, batch_n: np.ndarray, names: Sequence[str]) -> None:
    """Log the batches that have hardly any cells like those of others: nothing shows what sets these batches apart.

    Beside its cells, in their clusters, hardly a fifth of the others are there that would be if all were mixed. Such a batch
    keeps its place, as a type of its own does.
    """
    n_bk = np.asarray(one_hot(batch_n, len(names)).T @ share_nk)
    n_k, n_b = n_bk.sum(axis=0), n_bk.sum(axis=1)
    others_b = (n_bk * (1 - n_bk / np.maximum(n_k, 1e-12))).sum(axis=1) / np.maximum(n_b, 1e-12)
    mixed_b = np.maximum(1 - n_b / n_b.sum(), 1e-12)
    separate = [name for name, share, n in zip(names, others_b / mixed_b, n_b, strict=True) if n and share < SEPARATE]
    if separate:
        logger.warning(
            "%d of %d batches have hardly any cells like those of other batches and keep their place: %s",
            len(separate),
            len(names),
            ", ".join(map(repr, separate[:5])),
        )


def _cluster(
    unit_nd: np.ndarray,
    share_nk: np.ndarray,
    batch_n: np.ndarray,
    member_nb: sparse.csr_matrix,
    rng: np.random.Generator,
) -> float:
    """Update the cells' shares in place until the mean of three objectives settles; return the last objective."""
    n_cells, rate_b = len(unit_nd), np.asarray(member_nb.mean(axis=0)).ravel()
    # cells of each batch that a cluster holds, and those to be expected of its size, (b, k)
    observed_bk, expected_bk = member_nb.T @ share_nk, np.outer(rate_b, share_nk.sum(axis=0))
    objectives: list[float] = []
    for _ in range(MAX_STEPS):
        center_kd = _unit(share_nk.T @ unit_nd)
        distance_nk = 2 * (1 - unit_nd @ center_kd.T)
        near_nk = np.exp(-(distance_nk - distance_nk.min(axis=1, keepdims=True)) / SIGMA)
        for part in np.array_split(rng.permutation(n_cells), max(round(1 / BLOCK), 1)):
            # without the cells of this part, so that they do not count as company of their own
            observed_bk -= member_nb[part].T @ share_nk[part]
            expected_bk -= np.outer(rate_b, share_nk[part].sum(axis=0))
            rarity_bk = ((expected_bk + 1) / (observed_bk + 1)) ** DIVERSITY_WEIGHT
            found = near_nk[part] * rarity_bk[batch_n[part]]
            share_nk[part] = found / found.sum(axis=1, keepdims=True)
            observed_bk += member_nb[part].T @ share_nk[part]
            expected_bk += np.outer(rate_b, share_nk[part].sum(axis=0))
        # distances, entropy and the penalty on clusters of few batches
        penalty = DIVERSITY_WEIGHT * (observed_bk * np.log((observed_bk + 1) / (expected_bk + 1))).sum()
        entropy = (share_nk * np.log(np.maximum(share_nk, 1e-300))).sum()
        objectives.append(float((share_nk * distance_nk).sum() + SIGMA * (entropy + penalty)))
        if len(objectives) > 3:
            before, now = np.mean(objectives[-4:-1]), np.mean(objectives[-3:])
            if abs(before - now) < STEP_TOLERANCE * abs(before):
                break
    return objectives[-1]


def _correct(z_nd: np.ndarray, share_nk: np.ndarray, batch_n: np.ndarray, member_nb: sparse.csr_matrix) -> np.ndarray:
    """Take off, cluster by cluster, how far a batch's mean lies from the common one.

    A ridge regression on an intercept and the batch, the intercept not penalised. With one batch a cell its normal
    equations have the form of an arrow, so that no matrix is inverted, however many batches there are.
    """
    n_bk = np.asarray(member_nb.T @ share_nk)
    shrunk_bk = n_bk / (n_bk + RIDGE)
    corrected_nd = z_nd.copy()
    for k in range(share_nk.shape[1]):
        total_bd = member_nb.T @ (share_nk[:, k, None] * z_nd)
        free = n_bk[:, k].sum() - (shrunk_bk[:, k] * n_bk[:, k]).sum()
        common_d = (total_bd - shrunk_bk[:, k, None] * total_bd).sum(axis=0) / max(free, 1e-12)
        shift_bd = (total_bd - n_bk[:, k, None] * common_d) / (n_bk[:, k, None] + RIDGE)
        corrected_nd -= share_nk[:, k, None] * shift_bd[batch_n]
    return corrected_nd


def _unit(x_nd: np.ndarray) -> np.ndarray:
    return x_nd / np.maximum(np.linalg.norm(x_nd, axis=1, keepdims=True), 1e-12)
