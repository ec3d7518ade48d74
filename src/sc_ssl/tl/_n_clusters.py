"""The number of clusters, judged without labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import adjusted_rand_score, silhouette_score

from ._partitions import METHODS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: resamples of which the stability is the mean, and the share of cells in each
N_RESAMPLES = 5
RESAMPLED = 0.8

CRITERION = "silhouette"


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
    part = _parts(space_nd, method, seed)
    resampled = [_parts(space_nd[draw], method, seed) for draw in draws]
    rows = []
    for k in n_clusters:
        label_n = part(k)
        if label_n is None or len(np.unique(label_n)) != k:
            rows.append((np.nan, np.nan, np.nan))
        else:
            again = [parts(k) for parts in resampled]
            rows.append((criterion(space_nd, label_n), *_stability(label_n, draws, again)))
    return Curve(np.array(list(n_clusters)), *np.array(rows, dtype=float).T)


def n_distinct(space_nd: np.ndarray) -> int:
    """Number of different cells."""
    return len(np.unique(space_nd, axis=0))


def _parts(space_nd: np.ndarray, method: str, seed: int) -> Callable[[int], np.ndarray | None]:
    """The method on these cells, without an answer where they are too few or too much alike."""
    part, at_most = METHODS[method](space_nd, seed), n_distinct(space_nd)
    return lambda k: part(k) if k <= at_most else None


def criterion(space_nd: np.ndarray, label_n: np.ndarray) -> float:
    """Mean silhouette (Rousseeuw 1987), NaN where each cell is a cluster."""
    return float(silhouette_score(space_nd, label_n)) if len(np.unique(label_n)) < len(label_n) else np.nan


def _stability(label_n: np.ndarray, draws: list[np.ndarray], again: list[np.ndarray | None]) -> tuple[float, float]:
    """Mean and sd of the ARI between the clusters of all cells and those of cells drawn, on the latter."""
    ari = [adjusted_rand_score(label_n[draw], b) for draw, b in zip(draws, again, strict=True) if b is not None]
    return (float(np.mean(ari)), float(np.std(ari))) if ari else (np.nan, np.nan)
