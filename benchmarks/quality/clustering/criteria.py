"""Candidate criteria for the number of clusters: the score of every number, and which number each takes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import scanpy as sc
import torch
from anndata import AnnData
from scipy.sparse.csgraph import laplacian
from scipy.stats import rankdata
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, calinski_harabasz_score, davies_bouldin_score, silhouette_score
from sklearn.mixture import GaussianMixture

from sc_ssl.metrics import kmeans

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from scipy.sparse import spmatrix

#: reference sets of the gap statistic, and splits of the prediction strength
N_REFERENCES = 3
N_SPLITS = 3
#: draws of cells of which the stability is the mean, and the share of cells in each
N_DRAWS, DRAWN = 5, 0.8
N_NEIGHBORS = 15


@dataclass
class Judged:
    """Cells of an embedding, (n, d), and every score of K-means with k clusters of them."""

    space_nd: np.ndarray
    seed: int

    def at(self, k: int) -> dict[str, float]:
        """Every measure for one number of clusters."""
        z_nd, label_n = self.space_nd, kmeans(self.space_nd, k, random_state=self.seed)
        mixture = GaussianMixture(k, covariance_type="diag", max_iter=500, random_state=self.seed)
        gap, gap_se = self._gap(k)
        return {
            "silhouette": float(silhouette_score(z_nd, label_n)),
            "calinski_harabasz": float(calinski_harabasz_score(z_nd, label_n)),
            "davies_bouldin": float(davies_bouldin_score(z_nd, label_n)),
            "stability": self._stability(label_n, k),
            "modularity": modularity(self.graph_nn, label_n),
            "gap": gap,
            "gap_se": gap_se,
            "bic": float(mixture.fit(z_nd.astype(float)).bic(z_nd.astype(float))),
            "prediction_strength": self._prediction_strength(k),
            "eigengap": float(self.eigenvalues[k] - self.eigenvalues[k - 1]) if k < len(z_nd) else np.nan,
            "n_leiden": self.n_leiden,
        }

    @cached_property
    def cells(self) -> AnnData:
        """The cells with scanpy's graph of nearest neighbours and Leiden's clusters at resolution 1."""
        cells = AnnData(obsm={"space": self.space_nd})
        n_threads = torch.get_num_threads()  # scanpy's numba kernels set it for the whole process
        n_neighbors = min(N_NEIGHBORS, len(self.space_nd) - 1)
        sc.pp.neighbors(cells, n_neighbors=n_neighbors, use_rep="space", random_state=self.seed)
        sc.tl.leiden(cells, resolution=1, flavor="igraph", n_iterations=2, directed=False, random_state=self.seed)
        torch.set_num_threads(n_threads)
        return cells

    @property
    def graph_nn(self) -> spmatrix:
        """Weights of the graph of nearest neighbours, in [0, 1]."""
        return self.cells.obsp["connectivities"]

    @property
    def n_leiden(self) -> int:
        """Number of Leiden's clusters at resolution 1."""
        return self.cells.obs["leiden"].nunique()

    @cached_property
    def eigenvalues(self) -> np.ndarray:
        """Eigenvalues of the graph's normalised Laplacian, rising (von Luxburg 2007)."""
        return np.linalg.eigvalsh(laplacian(self.graph_nn, normed=True).toarray())

    @cached_property
    def references(self) -> list[np.ndarray]:
        """Cells drawn uniformly from the box along the principal axes (Tibshirani, Walther and Hastie 2001)."""
        rng = np.random.default_rng(self.seed)
        mean = self.space_nd.mean(axis=0)
        axes = np.linalg.svd(self.space_nd - mean, full_matrices=False)[2]
        turned = (self.space_nd - mean) @ axes.T
        return [rng.uniform(turned.min(axis=0), turned.max(axis=0), turned.shape) for _ in range(N_REFERENCES)]

    def _stability(self, label_n: np.ndarray, k: int) -> float:
        """Mean ARI, over draws of 80 % of the cells, between their clusters and those of all cells; as `tl.cluster`."""
        rng = np.random.default_rng(self.seed)
        n, at_least = len(self.space_nd), max(round(DRAWN * len(self.space_nd)), 2)
        draws = [rng.choice(n, at_least, replace=False) for _ in range(N_DRAWS)]
        again = [kmeans(self.space_nd[draw], k, random_state=self.seed) for draw in draws]
        return float(np.mean([adjusted_rand_score(label_n[a], b) for a, b in zip(draws, again, strict=True)]))

    def _gap(self, k: int) -> tuple[float, float]:
        def log_within(x_nd: np.ndarray) -> float:
            return float(np.log(KMeans(k, n_init=1, random_state=self.seed).fit(x_nd).inertia_))

        reference = [log_within(x_nd) for x_nd in self.references]
        return np.mean(reference) - log_within(self.space_nd), np.std(reference) * np.sqrt(1 + 1 / N_REFERENCES)

    def _prediction_strength(self, k: int) -> float:
        """Mean over random halves of the worst cluster's share of pairs that the other half's centres keep together."""
        rng = np.random.default_rng(self.seed)
        strengths = []
        for _ in range(N_SPLITS):
            rows = rng.permutation(len(self.space_nd))
            one, two = self.space_nd[rows[::2]], self.space_nd[rows[1::2]]
            if min(len(one), len(two)) < k:
                return np.nan
            predicted = KMeans(k, n_init=3, random_state=self.seed).fit(one).predict(two)
            label_n = KMeans(k, n_init=3, random_state=self.seed).fit_predict(two)
            together = np.zeros((k, k))
            np.add.at(together, (label_n, predicted), 1)
            size = together.sum(axis=1)
            pairs = (together * (together - 1)).sum(axis=1)
            strengths.append(min((p / (n * (n - 1)) for p, n in zip(pairs, size, strict=True) if n > 1), default=0.0))
        return float(np.mean(strengths))


def modularity(graph_nn: spmatrix, label_n: np.ndarray) -> float:
    """Share of the graph's weight inside clusters, less that expected from the cells' own (Newman 2006, eq. 1)."""
    degree_n = np.ravel(graph_nn.sum(axis=1))
    total = degree_n.sum()
    inside = sum(graph_nn[label_n == k][:, label_n == k].sum() for k in np.unique(label_n))
    expected_k = np.bincount(label_n, weights=degree_n) / total
    return float(inside / total - np.square(expected_k).sum())


def _first_gap(curve: pd.DataFrame) -> int:
    """The smallest k with gap(k) ≥ gap(k + 1) − s(k + 1); the largest where there is none."""
    enough = curve["gap"].to_numpy()[:-1] >= (curve["gap"] - curve["gap_se"]).to_numpy()[1:]
    return int(curve.index[np.argmax(enough)] if enough.any() else curve.index[-1])


def _largest(above: pd.Series) -> int:
    return int(above.index[above].max()) if above.any() else int(above.index[0])


def _mean_rank(curve: pd.DataFrame, *signed: str) -> int:
    ranks = [rankdata(-curve[name[1:]] if name[0] == "-" else curve[name]) for name in signed]
    return int(curve.index[np.argmax(np.mean(ranks, axis=0))])


def _nearest(curve: pd.DataFrame) -> int:
    return int(np.clip(curve["n_leiden"].iloc[0], curve.index[0], curve.index[-1]))


#: name → the number that is taken from a table of measures, indexed by the number of clusters
CRITERIA: dict[str, Callable[[pd.DataFrame], int]] = {
    "silhouette": lambda c: int(c["silhouette"].idxmax()),
    "calinski_harabasz": lambda c: int(c["calinski_harabasz"].idxmax()),
    "davies_bouldin": lambda c: int(c["davies_bouldin"].idxmin()),
    "modularity": lambda c: int(c["modularity"].idxmax()),
    "gap": _first_gap,
    "bic": lambda c: int(c["bic"].idxmin()),
    "prediction_strength": lambda c: _largest(c["prediction_strength"] >= 0.8),
    "stability": lambda c: _largest(c["stability"] >= 0.9),
    "eigengap": lambda c: int(c["eigengap"].idxmax()),
    "leiden_1": _nearest,
    "silhouette × stability": lambda c: int((c["silhouette"] * c["stability"]).idxmax()),
    "modularity × stability": lambda c: int((c["modularity"] * c["stability"]).idxmax()),
    "silhouette + modularity": lambda c: int((c["silhouette"] + c["modularity"]).idxmax()),
    "silhouette within 10 %": lambda c: _largest(c["silhouette"] >= 0.9 * c["silhouette"].max()),
    "rank of three": lambda c: _mean_rank(c, "silhouette", "calinski_harabasz", "-davies_bouldin"),
    "rank of silhouette, modularity, stability": lambda c: _mean_rank(c, "silhouette", "modularity", "stability"),
}
