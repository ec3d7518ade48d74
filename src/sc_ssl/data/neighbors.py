"""Neighbours of cells in an embedding."""

import numpy as np
from sklearn.neighbors import NearestNeighbors

from sc_ssl._threads import threads_kept

#: exact search up to here, approximate above
MAX_EXACT = 20_000


def nearest_cells(embedding: np.ndarray, n_neighbors: int) -> np.ndarray:
    """Positions of each cell and its nearest other cells, (n, n_neighbors + 1), the cell itself first.

    Exact up to 20,000 cells; above, approximate by pynndescent with a fixed seed. Where that finds too few, the cell
    itself stands in for the missing ones.
    """
    n_neighbors = min(n_neighbors, len(embedding) - 1)
    own = np.arange(len(embedding))[:, None]
    if len(embedding) <= MAX_EXACT:
        found = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute").fit(embedding).kneighbors()[1]
    else:
        from pynndescent import NNDescent

        with threads_kept():
            graph = NNDescent(embedding, n_neighbors=n_neighbors + 1, random_state=0).neighbor_graph
        found = _others(graph[0])
    return np.concatenate([own, found], axis=1)


def _others(found: np.ndarray) -> np.ndarray:
    """Leave out each cell itself, wherever it stands, or the farthest where it does not; −1 becomes the cell itself."""
    n, k = found.shape
    leave_out = found == np.arange(n)[:, None]
    leave_out[~leave_out.any(axis=1), -1] = True
    leave_out &= np.cumsum(leave_out, axis=1) == 1
    others = found[~leave_out].reshape(n, k - 1)
    return np.where(others < 0, np.arange(n)[:, None], others)
