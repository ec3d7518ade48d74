"""Classifiers of scikit-learn on embeddings, with probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

if TYPE_CHECKING:
    from collections.abc import Callable

    from sklearn.base import BaseEstimator

#: folds in which an SVM's margins are turned into probabilities; types with fewer cells are repeated
N_FOLDS = 3

#: neighbours that vote
N_NEIGHBORS = 15

OFF_THE_SHELF: dict[str, Callable[[int | None], BaseEstimator]] = {
    "knn": lambda seed: KNeighborsClassifier(N_NEIGHBORS, metric="cosine", weights="distance"),
    "logistic": lambda seed: LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced", random_state=seed),
    "svm": lambda seed: CalibratedClassifierCV(
        SVC(kernel="linear", C=0.1, class_weight="balanced", random_state=seed), cv=N_FOLDS, ensemble=False
    ),
    "forest": lambda seed: RandomForestClassifier(300, class_weight="balanced", random_state=seed),
}


def fit_off_the_shelf(
    name: str, embedding: np.ndarray, labels: np.ndarray, *, random_state: int | None, standardize: bool = True
) -> Pipeline:
    """Standardise the embedding (n, d) and fit; the result has ``classes_`` and ``predict_proba``.

    Principal components are better left as they are: those with little variance are mostly noise. Other than in scPretrain's evaluation, areas under curves can be taken from these probabilities, not from decisions.
    """
    model = OFF_THE_SHELF[name](random_state)
    if name == "knn":
        model.set_params(n_neighbors=min(N_NEIGHBORS, len(labels)))
    if name == "svm":
        rare = [np.flatnonzero(labels == c) for c in np.unique(labels) if np.sum(labels == c) < N_FOLDS]
        repeated = [np.resize(rows, N_FOLDS - len(rows)) for rows in rare]
        index = np.concatenate([np.arange(len(labels)), *repeated])
        embedding, labels = embedding[index], labels[index]
    scaler = StandardScaler() if standardize else "passthrough"
    return make_pipeline(scaler, model).fit(embedding, labels)
