"""Neighbours of cells in an embedding."""

import numpy as np
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

#: exact search up to here, approximate above
MAX_EXACT = 20_000


def nearest_cells(embedding: np.ndarray, n_neighbors: int) -> np.ndarray:
    """Positions of each cell and its nearest other cells, (n, n_neighbors + 1), the cell itself first.

    Exact up to 20,000 cells; above, approximate by pynndescent with a fixed seed.
    """
    n_neighbors = min(n_neighbors, len(embedding) - 1)
    if len(embedding) <= MAX_EXACT:
        found = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute").fit(embedding).kneighbors()[1]
    else:
        from pynndescent import NNDescent

        found = NNDescent(embedding, n_neighbors=n_neighbors + 1, random_state=0).neighbor_graph[0][:, 1:]
    return np.concatenate([np.arange(len(embedding))[:, None], found], axis=1)


def smooth(values: np.ndarray, neighbors: np.ndarray, n_steps: int) -> np.ndarray:
    """Replace each cell's values (n, d) by the mean over it and its neighbours (n, k), ``n_steps`` times."""
    n, k = neighbors.shape
    average = sparse.csr_matrix(
        (np.full(n * k, 1 / k, np.float32), neighbors.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n)
    )
    for _ in range(n_steps):
        values = average @ values
    return values
