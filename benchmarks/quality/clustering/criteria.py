"""Candidates for choosing the number of clusters: what each says of every number, and which number it takes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse.csgraph import laplacian
from scipy.stats import rankdata
from sklearn.cluster import KMeans
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score
from sklearn.mixture import GaussianMixture

from sc_ssl.metrics import kmeans
from sc_ssl.tl._n_clusters import judge, modularity
from sc_ssl.tl._partitions import Leiden

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

#: reference sets of the gap statistic, and splits of the prediction strength
N_REFERENCES = 3
N_SPLITS = 3


@dataclass
class Judged:
    """Cells of an embedding, (n, d), and all that the candidates say of K-means with k clusters of them."""

    space_nd: np.ndarray
    seed: int

    def at(self, k: int) -> dict[str, float]:
        """Every measure for one number of clusters."""
        z_nd, label_n = self.space_nd, kmeans(self.space_nd, k, random_state=self.seed)
        curve = judge(z_nd, "kmeans", [k], self.seed)
        mixture = GaussianMixture(k, covariance_type="diag", max_iter=500, random_state=self.seed)
        gap, gap_se = self._gap(k)
        return {
            "silhouette": float(silhouette_score(z_nd, label_n)),
            "calinski_harabasz": float(calinski_harabasz_score(z_nd, label_n)),
            "davies_bouldin": float(davies_bouldin_score(z_nd, label_n)),
            "stability": float(curve.stability[0]),
            "modularity": modularity(self.graph.cells.obsp["connectivities"], label_n),
            "gap": gap,
            "gap_se": gap_se,
            "bic": float(mixture.fit(z_nd.astype(float)).bic(z_nd.astype(float))),
            "prediction_strength": self._prediction_strength(k),
            "eigengap": float(self.eigenvalues[k] - self.eigenvalues[k - 1]) if k < len(z_nd) else np.nan,
            "n_leiden": len(np.unique(self.graph.at(0.0))),
        }

    @cached_property
    def graph(self) -> Leiden:
        """The graph of nearest neighbours, and Leiden's clusters at resolution 1 = 10 ** 0."""
        return Leiden(self.space_nd, self.seed)

    @cached_property
    def eigenvalues(self) -> np.ndarray:
        """Eigenvalues of the graph's normalised Laplacian, rising (von Luxburg 2007)."""
        return np.linalg.eigvalsh(laplacian(self.graph.cells.obsp["connectivities"], normed=True).toarray())

    @cached_property
    def references(self) -> list[np.ndarray]:
        """Cells drawn uniformly from the box along the principal axes (Tibshirani, Walther and Hastie 2001)."""
        rng = np.random.default_rng(self.seed)
        mean = self.space_nd.mean(axis=0)
        axes = np.linalg.svd(self.space_nd - mean, full_matrices=False)[2]
        turned = (self.space_nd - mean) @ axes.T
        return [rng.uniform(turned.min(axis=0), turned.max(axis=0), turned.shape) for _ in range(N_REFERENCES)]

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
