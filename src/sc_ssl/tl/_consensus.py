"""Clusters that do not hang on the luck of a start: what many K-means runs agree on."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from sc_ssl.metrics import kmeans

#: runs, each the best of so many starts, on half of the cells and at most so many
N_RUNS, N_STARTS, DRAWN, MAX_DRAWN = 200, 3, 0.5, 5_000
#: starts of the K-means that finds what the runs agree on
N_FINAL_STARTS = 50


class Consensus(NamedTuple):
    """Clusters (n,), and how stable each cell is in its own, (n,), in [0, 1]."""

    label_n: np.ndarray
    stability_n: np.ndarray


def consensus(space_nd: np.ndarray, n_clusters: int, seed: int) -> Consensus:
    """K-means on halves of the cells, drawn again and again, and K-means on which clusters each cell is in (Strehl & Ghosh 2002).

    Wu et al. (2015) show that the latter minimises the disagreement with the runs. The stability of a cell is the share of runs
    in which it is with the cells of its cluster, in the mean over these: the item consensus of Monti et al. (2003).

    Parameters
    ----------
    space_nd
        Cells, (n, d).
    n_clusters
        Number of clusters k, at most the number of distinct cells.
    seed
        Of draws and starts.
    """
    rng = np.random.default_rng(seed)
    with warnings.catch_warnings():  # a draw may have fewer distinct cells than clusters
        warnings.simplefilter("ignore", ConvergenceWarning)
        run_nr = np.stack([_run(space_nd, n_clusters, rng) for _ in range(N_RUNS)], axis=1)
        label_n = _agreed(run_nr, n_clusters, int(rng.integers(2**31)))
    if len(np.unique(label_n)) < n_clusters:  # as many clusters as cells, or nearly: nothing to agree on
        label_n = kmeans(space_nd, n_clusters, random_state=seed)
    return Consensus(label_n, _item_consensus(run_nr, label_n))


def _run(space_nd: np.ndarray, n_clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Clusters of all cells after centres that were found on a draw of them."""
    n = len(space_nd)
    n_drawn = min(max(round(DRAWN * n), min(n, 2 * n_clusters)), MAX_DRAWN)
    drawn = rng.choice(n, n_drawn, replace=False)
    model = KMeans(n_clusters, n_init=N_STARTS, random_state=int(rng.integers(2**31)))
    return model.fit(space_nd[drawn]).predict(space_nd).astype(np.int32)


def _agreed(run_nr: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    """K-means of the indicators of clusters in all runs; cells that were together in every run are one row with a weight."""
    rows, row_n, size = np.unique(run_nr, axis=0, return_inverse=True, return_counts=True)
    if len(rows) < n_clusters:
        return np.zeros(len(run_nr), int)
    fitted = np.argsort(-size, kind="stable")[:MAX_DRAWN]
    model = KMeans(n_clusters, n_init=N_FINAL_STARTS, random_state=seed)
    model.fit(_indicators(rows[fitted], n_clusters), sample_weight=size[fitted])
    parts = np.array_split(rows, max(len(rows) // MAX_DRAWN, 1))
    return np.concatenate([model.predict(_indicators(part, n_clusters)) for part in parts])[row_n.ravel()]


def _indicators(rows: np.ndarray, n_clusters: int) -> np.ndarray:
    """1 where a row is in a cluster of a run, (n, runs · k)."""
    return np.eye(n_clusters, dtype=np.float32)[rows].reshape(len(rows), -1)


def _item_consensus(run_nr: np.ndarray, label_n: np.ndarray) -> np.ndarray:
    """Share of runs in which a cell is together with the cells of its cluster, (n,) float32."""
    k, total_n = int(label_n.max()) + 1, np.zeros(len(label_n))
    size_k = np.bincount(label_n, minlength=k)
    for found_n in run_nr.T:
        together = np.zeros((k, int(found_n.max()) + 1))
        np.add.at(together, (label_n, found_n), 1)
        total_n += together[label_n, found_n] / size_k[label_n]
    return (total_n / run_nr.shape[1]).astype(np.float32)
