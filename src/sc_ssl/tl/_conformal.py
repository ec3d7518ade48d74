"""Probabilities of cell types, and prediction sets that hold the true type as often as is asked for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from sc_ssl._logging import logger

if TYPE_CHECKING:
    from collections.abc import Iterator

#: neighbours that vote
N_NEIGHBORS = 15
#: at most so many parts of the reference are left out in turn
MAX_FOLDS = 10


def type_classifier() -> VotingClassifier:
    """The mean of the probabilities of a logistic regression and of near cells (cosine), on components of expression."""
    logistic = LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced")
    near = KNeighborsClassifier(N_NEIGHBORS, weights="distance", algorithm="brute")
    votes = [("logistic", make_pipeline(StandardScaler(), logistic)), ("near", make_pipeline(Normalizer(), near))]
    return VotingClassifier(votes, voting="soft")


def fit_classifier(known_nd: np.ndarray, code_n: np.ndarray) -> VotingClassifier:
    """The classifier of these cells; of few, fewer vote."""
    classifier = type_classifier()
    classifier.set_params(near__kneighborsclassifier__n_neighbors=min(N_NEIGHBORS, len(code_n)))
    return classifier.fit(known_nd, code_n)


def conformal_threshold(
    known_nd: np.ndarray, as_query_nd: np.ndarray, code_n: np.ndarray, batch_n: np.ndarray, coverage: float
) -> tuple[float, int]:
    """The smallest probability with which a type is in a cell's prediction set, and how many cells it is calibrated on.

    Least ambiguous sets (Sadinle et al. 2019): each batch of the reference is left out in turn and predicted from the others,
    as a new batch will be; of all cells' probabilities of their own types, the threshold is the quantile above which the share
    ``coverage`` lies. A reference of one batch is parted at random, which foresees no difference between batches.

    Parameters
    ----------
    known_nd, as_query_nd
        The reference's cells as they are learned from, and as they would be as a query, (n, d).
    code_n, batch_n
        Type and batch of each, (n,).
    coverage
        In (0, 1).
    """
    own_n = np.concatenate(
        [
            _probability_of_own(fit_classifier(known_nd[rest], code_n[rest]), as_query_nd[left], code_n[left])
            for rest, left in _folds(code_n, batch_n)
        ]
    )
    needed = math.ceil(coverage / (1 - coverage))
    if len(own_n) < needed:
        raise ValueError(
            f"prediction sets of coverage={coverage:g} need at least {needed} annotated cells to calibrate on, in types that "
            f"several batches have, found {len(own_n)}; annotate more cells, or leave out the sets with coverage=None."
        )
    # with n cells, the k-th highest, k = ⌈(n + 1) coverage⌉, holds for the next cell too
    rank = math.ceil((len(own_n) + 1) * coverage)
    return float(np.sort(own_n)[::-1][rank - 1]), len(own_n)


def _folds(code_n: np.ndarray, batch_n: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cells to learn from and cells left out: whole batches, or of one batch a fifth of the cells of each type."""
    n_batch = len(np.unique(batch_n))
    if n_batch > 1:
        yield from GroupKFold(min(n_batch, MAX_FOLDS)).split(code_n, groups=batch_n)
        return
    logger.warning(
        "The reference has one batch (reference_batch_key): its prediction sets are calibrated on cells of that batch, and hold "
        "the true type less often in batches that differ from it."
    )
    n_folds = min(5, len(code_n))
    rare = np.bincount(code_n)[code_n] < n_folds  # which cannot be in each fold
    yield from StratifiedKFold(n_folds, shuffle=True, random_state=0).split(code_n, np.where(rare, -1, code_n))


def _probability_of_own(classifier: VotingClassifier, cells_nd: np.ndarray, code_n: np.ndarray) -> np.ndarray:
    """Of the cells whose type the classifier knows, the probability of that type."""
    column_n = np.searchsorted(classifier.classes_, code_n).clip(max=len(classifier.classes_) - 1)
    known_n = classifier.classes_[column_n] == code_n
    if not known_n.any():
        return np.empty(0)
    return classifier.predict_proba(cells_nd[known_n])[np.arange(known_n.sum()), column_n[known_n]]
