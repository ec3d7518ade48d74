"""Classifiers of scikit-learn on embeddings, with probabilities."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
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


def predict_off_the_shelf(
    name: str,
    known_nd: np.ndarray,
    labels: np.ndarray,
    query_nd: np.ndarray,
    *,
    random_state: int | None,
) -> tuple[np.ndarray, list[str]]:
    """Probabilities (n, k) for query embeddings after labelled ones, and the names of their columns.

    Embeddings are standardised. Other than in scPretrain's evaluation, areas under curves can be taken from these
    probabilities, not from decisions.
    """
    classes, code_n = np.unique(labels, return_inverse=True)  # scikit-learn takes names such as "2338" for numbers
    if name == "svm":
        rare = [np.flatnonzero(code_n == k) for k in np.flatnonzero(np.bincount(code_n) < N_FOLDS)]
        repeated = [np.resize(rows, N_FOLDS - len(rows)) for rows in rare]
        index = np.concatenate([np.arange(len(code_n)), *repeated])
        known_nd, code_n = known_nd[index], code_n[index]
    model = OFF_THE_SHELF[name](random_state)
    if name == "knn":
        model.set_params(n_neighbors=min(N_NEIGHBORS, len(code_n)))
    pipeline = make_pipeline(StandardScaler(), model)
    with warnings.catch_warnings():  # scikit-learn takes many types of few cells for a regression problem
        warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%", UserWarning)
        pipeline.fit(known_nd, code_n)
    return pipeline.predict_proba(query_nd), [str(name) for name in classes]
