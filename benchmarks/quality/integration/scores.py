"""How well types are found across batches, and how well batches are mixed within a type."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import adjusted_rand_score, f1_score
from sklearn.neighbors import KNeighborsClassifier

from sc_ssl.metrics import batch_mixing, kmeans

#: neighbours that vote on a type
N_VOTING = 15


def score(z_nd: np.ndarray, type_n: np.ndarray, batch_n: np.ndarray, *, seed: int) -> dict[str, float]:
    """``ari`` of K-means with the number of types, ``f1`` across batches and ``mix`` within types."""
    label_n = kmeans(z_nd, len(np.unique(type_n)), random_state=seed)
    return {
        "ari": float(adjusted_rand_score(type_n, label_n)),
        "f1": cross_batch_f1(z_nd, type_n, batch_n),
        "mix": batch_mixing(z_nd, batch_n, type_n),
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
