"""How well batches are mixed among like cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sc_ssl.data import nearest_cells
from sc_ssl.metrics.clustering import check_partition, check_space

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: a type with fewer cells is not scored
MIN_CELLS = 40
#: nor is one whose cells are of one batch but for a few: batches that could be there in effect
MIN_POSSIBLE = 1.05


def batch_mixing(
    embedding: ArrayLike, batches: ArrayLike, labels: ArrayLike | None = None, *, n_neighbors: int = 30
) -> float:
    """Score how well batches are mixed among like cells: 0 apart, 1 as well as the share of each batch allows.

    The inverse Simpson index counts the batches among a cell's nearest cells of its own type, as in LISI [1]_ but with equal
    weights. It is scaled by what mixing at random would reach, separately for each type, so that a type which one batch
    holds nearly alone is not expected in the others; the mean is over types, however large.

    Parameters
    ----------
    embedding
        (n_cells, n_dims), e.g. ``adata.obsm["X_masksc"]``; distances are Euclidean.
    batches
        (n_cells,) batch of each cell, e.g. ``adata.obs["donor"]``.
    labels
        (n_cells,) annotated cell types; without, all cells are taken to be alike, and batches of other composition cannot
        reach 1.
    n_neighbors
        Nearest cells among which batches are counted.

    Returns
    -------
    From 0, and 1 or a little above for batches mixed at random. NaN where no type has 40 cells in more than one batch.

    Raises
    ------
    ValueError
        Lengths that differ, missing values, or a single batch.

    Examples
    --------
    >>> import numpy as np
    >>> import sc_ssl
    >>> z = np.random.default_rng(0).normal(size=(300, 5))
    >>> batch = np.arange(300) % 2
    >>> round(sc_ssl.metrics.batch_mixing(z, batch), 1)
    1.0
    >>> round(sc_ssl.metrics.batch_mixing(z + 100 * batch[:, None], batch), 1)
    0.0

    References
    ----------
    .. [1] I. Korsunsky et al., Fast, sensitive and accurate integration of single-cell data with Harmony, Nature Methods 16
       (2019) 1289-1296.
    """
    embedding_nd = check_space(embedding, "embedding")
    n_cells = len(embedding_nd)
    batch_n = check_partition(batches, "batches", n_cells)
    if batch_n.max() < 1:
        raise ValueError("batches should name at least two batches, but all cells have the same one.")
    type_n = np.zeros(n_cells, int) if labels is None else check_partition(labels, "labels", n_cells)
    types = [np.flatnonzero(type_n == k) for k in range(type_n.max() + 1)]
    scores = [_of_type(embedding_nd[rows], batch_n[rows], n_neighbors) for rows in types if len(rows) >= MIN_CELLS]
    return float(np.nanmean(scores)) if not np.isnan(scores).all() else float("nan")


def _of_type(embedding_md: NDArray[np.floating], batch_m: NDArray[np.integer], n_neighbors: int) -> float:
    """Of the cells of one type, NaN where one batch holds nearly all of them."""
    names, code_m = np.unique(batch_m, return_inverse=True)
    possible = 1 / np.square(np.bincount(code_m) / len(code_m)).sum()
    if possible < MIN_POSSIBLE:
        return float("nan")
    index = nearest_cells(embedding_md, n_neighbors)[:, 1:]
    share_mb = np.stack([(code_m[index] == b).mean(axis=1) for b in range(len(names))], axis=1)
    return float(((1 / np.square(share_mb).sum(axis=1)).mean() - 1) / (possible - 1))
