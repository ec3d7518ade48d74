"""Types by a vote of the nearest labelled cells."""

import numpy as np
from sklearn.neighbors import NearestNeighbors


def neighbor_votes(
    x_md: np.ndarray, label_m: np.ndarray, n_classes: int, query_nd: np.ndarray | None, *, n_neighbors: int
) -> np.ndarray:
    """Share of the votes of each type, (n, k); neighbours by cosine, near ones weigh more (1 / distance).

    Without a query the labelled cells are asked for themselves, each without itself among its neighbours.
    """
    neighbors = NearestNeighbors(metric="cosine").fit(x_md)
    n_neighbors = min(n_neighbors, len(label_m) - (query_nd is None))
    distance_nm, index_nm = neighbors.kneighbors(query_nd, n_neighbors)  # without a query, a cell is not its own
    vote_nm = 1 / np.maximum(distance_nm, 1e-6)
    vote_nk = np.zeros((len(vote_nm), n_classes))
    np.add.at(vote_nk, (np.arange(len(vote_nm))[:, None], label_m[index_nm]), vote_nm)
    return vote_nk / vote_nk.sum(axis=1, keepdims=True)
