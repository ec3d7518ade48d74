"""How well types are found across batches, and how well batches are mixed within a type."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import adjusted_rand_score, f1_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from sc_ssl.metrics import kmeans

#: neighbours that vote on a type, and among which batches are counted
N_VOTING, N_MIXED = 15, 30
#: a type with fewer cells is not scored for mixing
MIN_CELLS = 40


def score(z_nd: np.ndarray, type_n: np.ndarray, batch_n: np.ndarray, *, seed: int) -> dict[str, float]:
    """``ari`` of K-means with the number of types, ``f1`` across batches and ``mix`` within types."""
    label_n = kmeans(z_nd, len(np.unique(type_n)), random_state=seed)
    return {
        "ari": float(adjusted_rand_score(type_n, label_n)),
        "f1": cross_batch_f1(z_nd, type_n, batch_n),
        "mix": mixing(z_nd, type_n, batch_n),
    }


def cross_batch_f1(z_nd: np.ndarray, type_n: np.ndarray, batch_n: np.ndarray) -> float:
    """Macro F1 of the types of cells, each predicted by its nearest cells (cosine) of *other* batches.

    Of types that several batches have; types of one batch are among those that can be predicted wrongly.
    """
    found_n = np.empty(len(type_n), dtype=object)
    for batch in np.unique(batch_n):
        inside = batch_n == batch
        voters = KNeighborsClassifier(min(N_VOTING, (~inside).sum()), metric="cosine")
        found_n[inside] = voters.fit(z_nd[~inside], type_n[~inside]).predict(z_nd[inside])
    shared = [name for name in np.unique(type_n) if len(np.unique(batch_n[type_n == name])) > 1]
    scored = np.isin(type_n, shared)
    return float(f1_score(type_n[scored], found_n[scored].astype(str), labels=shared, average="macro", zero_division=0))


def mixing(z_nd: np.ndarray, type_n: np.ndarray, batch_n: np.ndarray) -> float:
    """Mean over types of the inverse Simpson index of batches among a cell's 30 nearest cells of its type.

    Scaled so that 0 is one batch alone and 1 what the type's share of each batch allows; types in one batch, or with under 40
    cells, are left out.
    """
    found = []
    for name in np.unique(type_n):
        rows = np.flatnonzero(type_n == name)
        names, code_m = np.unique(batch_n[rows], return_inverse=True)
        possible = 1 / np.square(np.bincount(code_m) / len(rows)).sum()
        if len(rows) < MIN_CELLS or possible < 1.05:
            continue
        index = NearestNeighbors(n_neighbors=min(N_MIXED, len(rows) - 1)).fit(z_nd[rows]).kneighbors()[1]
        share_mb = np.stack([(code_m[index] == b).mean(axis=1) for b in range(len(names))], axis=1)
        found.append(((1 / np.square(share_mb).sum(axis=1)).mean() - 1) / (possible - 1))
    return float(np.mean(found)) if found else float("nan")
