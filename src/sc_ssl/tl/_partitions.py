"""Cells parted into a given number of clusters: ``PARTITIONS[name](space_nd, seed)(n_clusters)`` are labels 0, 1, …."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import scanpy as sc
from anndata import AnnData
from sklearn.mixture import GaussianMixture

from sc_ssl._threads import threads_kept
from sc_ssl.metrics import kmeans

if TYPE_CHECKING:
    from collections.abc import Callable

#: neighbours in the graph, scanpy's default
N_NEIGHBORS = 15
#: log10 of the resolutions between which :class:`Leiden` searches, and how often it halves
EXPONENTS = (-3.0, 2.0)
N_HALVINGS = 16


def by_kmeans(space_nd: np.ndarray, seed: int) -> Callable[[int], np.ndarray]:
    """K-means, the best of 10 runs."""
    return partial(kmeans, space_nd, random_state=seed)


def by_gmm(space_nd: np.ndarray, seed: int) -> Callable[[int], np.ndarray]:
    """The likelier component of a mixture of Gaussians, each with variances of its own along the axes (``diag``)."""

    def labels(n_clusters: int) -> np.ndarray:
        mixture = GaussianMixture(n_clusters, covariance_type="diag", n_init=3, max_iter=500, random_state=seed)
        return mixture.fit_predict(space_nd.astype(np.float64))

    return labels


def neighbor_graph(space_nd: np.ndarray, seed: int) -> AnnData:
    """Scanpy's graph of the 15 nearest neighbours in ``obsp["connectivities"]``, weights in [0, 1]."""
    # scanpy and not data.nearest_cells: leiden and the modularity go by UMAP's weights, which other neighbours would change
    cells = AnnData(obsm={"space": space_nd})
    with threads_kept():
        n_neighbors = min(N_NEIGHBORS, len(space_nd) - 1)
        sc.pp.neighbors(cells, n_neighbors=n_neighbors, use_rep="space", random_state=seed)
    return cells


class Leiden:
    """Modularity clusters of the graph of nearest neighbours, at the resolution that gives the number asked for.

    The number of clusters grows with the resolution, but not strictly: where halving finds none with that number, the
    labels returned are those with the nearest.
    """

    def __init__(self, space_nd: np.ndarray, seed: int) -> None:
        self.cells = neighbor_graph(space_nd, seed)
        self.seed = seed
        self.found: dict[float, np.ndarray] = {}

    def __call__(self, n_clusters: int) -> np.ndarray:
        """Halve the range of resolutions until the number is met."""
        low, high = EXPONENTS
        best = self.at(low)
        for _ in range(N_HALVINGS):
            middle = (low + high) / 2
            label_n = self.at(middle)
            n_found = len(np.unique(label_n))
            if abs(n_found - n_clusters) < abs(len(np.unique(best)) - n_clusters):
                best = label_n
            if n_found == n_clusters:
                break
            low, high = (middle, high) if n_found < n_clusters else (low, middle)
        return best

    def at(self, exponent: float) -> np.ndarray:
        """Labels at the resolution 10 ** exponent."""
        if exponent not in self.found:
            options = {"flavor": "igraph", "n_iterations": 2, "directed": False, "random_state": self.seed}
            with threads_kept():
                sc.tl.leiden(self.cells, resolution=10**exponent, **options)
            self.found[exponent] = self.cells.obs["leiden"].cat.codes.to_numpy()
        return self.found[exponent]


PARTITIONS: dict[str, Callable[[np.ndarray, int], Callable[[int], np.ndarray]]] = {
    "kmeans": by_kmeans,
    "leiden": Leiden,
    "gmm": by_gmm,
}
