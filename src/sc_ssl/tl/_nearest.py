"""Cells of a query beside the nearest cells of a reference: their novelty, and their place in a map of the reference."""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from sc_ssl.data import evenly_spread

N_NEIGHBORS = 15
#: more cells than this, evenly spread, change no neighbourhood much
MAX_CELLS = 20_000
#: so that cells that are all alike are neither near nor far
TINY = 1e-6


def novelty(reference_nd: np.ndarray, query_nd: np.ndarray) -> np.ndarray:
    """How far each cell of the query lies from the reference, beside how far cells lie from each other there, (n,).

    d / (d + s), with d the mean distance to the nearest reference cells, and s the mean of the spacing of these among
    themselves and of that of the query around the cell. Where one side has fewer cells, they are farther apart, so that fewer
    neighbours of the one are compared with more of the other. In [0, 1], 0.5 among cells like itself; cosine.
    """
    reference_nd, query_nd = normalize(reference_nd), normalize(query_nd)
    known_nd, other_n = (
        reference_nd[evenly_spread(len(reference_nd), MAX_CELLS)],
        evenly_spread(len(query_nd), MAX_CELLS),
    )
    ratio = len(other_n) / len(known_nd)
    n_known = int(np.clip(round(N_NEIGHBORS / ratio), 1, min(N_NEIGHBORS, len(known_nd) - 1)))
    n_own = int(np.clip(round(N_NEIGHBORS * ratio), 1, N_NEIGHBORS))
    among_known = NearestNeighbors(n_neighbors=n_known, algorithm="brute").fit(known_nd)
    spacing_r = among_known.kneighbors()[0].mean(axis=1)
    distance, near = among_known.kneighbors(query_nd)
    d_n, spacing_n = distance.mean(axis=1), spacing_r[near].mean(axis=1)
    if len(other_n) > 1:
        spacing_n = (spacing_n + _own_spacing(query_nd, other_n, min(n_own, len(other_n) - 1))) / 2
    return ((d_n + TINY) / (d_n + spacing_n + 2 * TINY)).astype(np.float32)


def _own_spacing(query_nd: np.ndarray, other_n: np.ndarray, n_neighbors: int) -> np.ndarray:
    """Mean distance of each cell to its nearest other cells, among some of them."""
    found = NearestNeighbors(n_neighbors=n_neighbors + 1, algorithm="brute").fit(query_nd[other_n])
    distance, near = found.kneighbors(query_nd)
    distance[other_n[near] == np.arange(len(query_nd))[:, None]] = np.inf  # the cell itself
    return np.sort(distance, axis=1)[:, :n_neighbors].mean(axis=1)


def place(reference_nd: np.ndarray, query_nd: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """Coordinates in a map of the reference: the median of those of the nearest reference cells, (n, 2) float32."""
    some = evenly_spread(len(reference_nd), MAX_CELLS)
    n_neighbors = min(N_NEIGHBORS, len(some))
    nearest = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute").fit(normalize(reference_nd[some]))
    near = nearest.kneighbors(normalize(query_nd), return_distance=False)
    return np.median(np.asarray(coordinates)[some][near], axis=1).astype(np.float32)
