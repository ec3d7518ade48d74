"""``python -m benchmarks.quality cluster_seeds``: how far clusters of one embedding depend on the seed, and rare types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from anndata import AnnData
from sklearn.metrics import adjusted_rand_score

from benchmarks.quality.data import load
from benchmarks.quality.embeddings import ours, pca_standard
from benchmarks.quality.runs import Run
from benchmarks.quality.table import Table
from sc_ssl import tl

from .n_clusters import DATASETS

#: a type is rare with a smaller share of the cells than this, and recovered by a cluster with this F1
RARE, RECOVERED = 0.01, 0.5
N_SEEDS = 5

#: embeddings and types → cells
Row = tuple[str, str]


def prepare(name: str) -> AnnData:
    """Cells with both embeddings, which are the same for all rows and seeds."""
    adata = load(name)
    obsm = {"masksc": ours("masksc")(adata.copy(), 0), "pca": pca_standard(adata.copy(), 0)}
    return AnnData(obs=adata.obs[["cell_type"]].astype(str), obsm=obsm)


ROWS: dict[str, Row] = {
    "K-means of masksc": ("masksc", "kmeans"),
    "Leiden of masksc": ("masksc", "leiden"),
    "consensus of masksc": ("masksc", "consensus"),
    "K-means of PCA": ("pca", "kmeans"),
    "Leiden of PCA": ("pca", "leiden"),
    "consensus of PCA": ("pca", "consensus"),
}


def fit(row: Row, cells: AnnData, this: Run) -> list[np.ndarray]:
    """Clusters from several seeds, as many as there are types, or the nearest number that Leiden makes."""
    use_rep, method = row
    part = _partition(cells, use_rep, method)
    return [part(seed) for seed in range(N_SEEDS)]


def _partition(cells: AnnData, use_rep: str, method: str) -> Callable[[int], np.ndarray]:
    k = cells.obs["cell_type"].nunique()

    def part(seed: int) -> np.ndarray:
        for n_clusters in [k, *(k + sign * step for step in range(1, k) for sign in (1, -1))]:
            try:
                tl.cluster(cells, use_rep, n_clusters=n_clusters, method=method, key_added="found", random_state=seed)
            except ValueError:  # Leiden does not make every number
                continue
            return cells.obs["found"].cat.codes.to_numpy()
        raise ValueError(f"{method} makes no number of clusters near {k}.")

    return part


def evaluate(found: list[np.ndarray], cells: AnnData, this: Run) -> Mapping[str, Any]:
    """Mean and sd of the ARI over seeds, and the share of rare types that a cluster recovers."""
    type_n = cells.obs["cell_type"].to_numpy()
    ari = [adjusted_rand_score(type_n, label_n) for label_n in found]
    names, count = np.unique(type_n, return_counts=True)
    rare = names[count < RARE * len(type_n)]
    recovered = [recovers(type_n == name, label_n) for name in rare for label_n in found]
    return {
        "ari": np.mean(ari),
        "sd of ari": np.std(ari),
        "rare types found": np.mean(recovered) if recovered else np.nan,
    }


def recovers(member_n: np.ndarray, label_n: np.ndarray) -> bool:
    """Whether a cluster has F1 of at least one half for these cells."""
    both = np.bincount(label_n, member_n)
    return bool((2 * both / (np.bincount(label_n) + member_n.sum())).max() >= RECOVERED)


def benchmark() -> Table:
    """What the command line runs."""
    return Table(
        name="cluster_seeds",
        command="cluster_seeds",
        datasets=DATASETS,
        rows=ROWS,
        prepare=prepare,
        shared_by=("dataset",),
        fit=fit,
        evaluate=evaluate,
        measures=("ari", "sd of ari", "rare types found"),
    )
