"""The number of clusters, judged without labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import adjusted_rand_score, silhouette_score

from sc_ssl.train import tracked

from ._partitions import PARTITIONS, neighbor_graph

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from scipy.sparse import spmatrix

#: the stability is the mean over so many resamples, each of this share of the cells
N_RESAMPLES = 5
RESAMPLED = 0.8

#: what :func:`judge` goes by
CRITERION = "mean of silhouette and modularity"


@dataclass(frozen=True)
class Curve:
    """For each number of clusters: the criterion, and mean and sd over resamples of the stability; (k,) each."""

    n_clusters: np.ndarray
    criterion: np.ndarray
    stability: np.ndarray
    stability_sd: np.ndarray


def judge(space_nd: np.ndarray, method: str, n_clusters: Iterable[int], seed: int) -> Curve:
    """Judge each number of clusters; NaN where the method cannot make it of these cells, or no measure is defined."""
    rng = np.random.default_rng(seed)
    n_drawn = max(round(RESAMPLED * len(space_nd)), 2)
    draws = [rng.choice(len(space_nd), n_drawn, replace=False) for _ in range(N_RESAMPLES)]
    graph_nn = neighbor_graph(space_nd, seed).obsp["connectivities"]
    part = _parts(space_nd, method, seed)
    resampled = [_parts(space_nd[draw], method, seed) for draw in draws]
    rows = []
    for k in tracked(list(n_clusters), "numbers of clusters"):
        label_n = part(k)
        if label_n is None or len(np.unique(label_n)) != k:
            rows.append((np.nan, np.nan, np.nan))
        else:
            again = [parts(k) for parts in resampled]
            rows.append((_criterion(space_nd, graph_nn, label_n), *_stability(label_n, draws, again)))
    return Curve(np.array(list(n_clusters)), *np.array(rows, dtype=float).T)


def n_distinct(space_nd: np.ndarray) -> int:
    """Number of different cells."""
    return len(np.unique(space_nd, axis=0))


def _parts(space_nd: np.ndarray, method: str, seed: int) -> Callable[[int], np.ndarray | None]:
    """The method on these cells, without an answer where they are too few or too much alike."""
    part, at_most = PARTITIONS[method](space_nd, seed), n_distinct(space_nd)
    return lambda k: part(k) if k <= at_most else None


def modularity(graph_nn: spmatrix, label_n: np.ndarray) -> float:
    """Share of the graph's weight inside clusters, less that expected from the cells' own (Newman 2006, eq. 1)."""
    degree_n = np.ravel(graph_nn.sum(axis=1))
    total = degree_n.sum()
    inside = sum(graph_nn[label_n == k][:, label_n == k].sum() for k in np.unique(label_n))
    expected_k = np.bincount(label_n, weights=degree_n) / total
    return float(inside / total - np.square(expected_k).sum())


def _criterion(space_nd: np.ndarray, graph_nn: spmatrix, label_n: np.ndarray) -> float:
    """Mean of the silhouette (Rousseeuw 1987) and the modularity; NaN where each cell is a cluster."""
    if len(np.unique(label_n)) == len(label_n):
        return np.nan
    return (float(silhouette_score(space_nd, label_n)) + modularity(graph_nn, label_n)) / 2


def _stability(label_n: np.ndarray, draws: list[np.ndarray], again: list[np.ndarray | None]) -> tuple[float, float]:
    """Mean and sd of the ARI between the clusters of all cells and those of cells drawn, on the latter."""
    ari = [adjusted_rand_score(label_n[draw], b) for draw, b in zip(draws, again, strict=True) if b is not None]
    return (float(np.mean(ari)), float(np.std(ari))) if ari else (np.nan, np.nan)
