"""Probabilities of cell types, and prediction sets that hold the true type as often as is asked for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
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
#: of logistic regression and neighbours, for types and for sets: the former is more often right, but of a new batch too sure of
#: wrong types, which makes sets of types large
FOR_TYPES, FOR_SETS = (2, 1), (1, 1)


class TypeClassifier:
    """A logistic regression and the votes of near cells (cosine), on components of expression (n, d); types are codes."""

    def __init__(self, known_nd: np.ndarray, code_n: np.ndarray) -> None:
        near = KNeighborsClassifier(min(N_NEIGHBORS, len(code_n)), weights="distance", algorithm="brute")
        self.logistic = make_pipeline(
            StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced")
        ).fit(known_nd, code_n)
        self.near = make_pipeline(Normalizer(), near).fit(known_nd, code_n)

    def __call__(self, cells_nd: np.ndarray, n_types: int, weights: tuple[int, int]) -> np.ndarray:
        """Weighted mean of the probabilities of both, (n, n_types); 0 for types that were not learned."""
        proba_nk = np.zeros((len(cells_nd), n_types))
        parts = [part.predict_proba(cells_nd) for part in (self.logistic, self.near)]
        proba_nk[:, self.near.classes_] = np.average(parts, axis=0, weights=weights)
        return proba_nk


def conformal_sets(
    known_nd: np.ndarray,
    as_query_nd: np.ndarray,
    code_n: np.ndarray,
    batch_n: np.ndarray,
    query_nd: np.ndarray,
    coverage: float,
) -> tuple[np.ndarray, int]:
    """Which types are in each cell's prediction set, (m, k) bool, and how many cells that is calibrated on.

    Least ambiguous sets (Sadinle et al. 2019) by cross-conformal prediction (Barber et al. 2021): each batch of the reference
    is left out in turn, and the others predict it and the query alike. A type is in the set unless the query's probability of
    it is among the lowest that left-out cells have of their own types. A reference of one batch is parted at random, which
    foresees no difference between batches.

    Parameters
    ----------
    known_nd, as_query_nd
        The reference's cells as they are learned from, and as they would be as a query, (n, d).
    code_n, batch_n
        Type, codes from 0 to k − 1, and batch of each, (n,).
    query_nd
        The query, (m, d).
    coverage
        Share of cells whose set holds their type, in (0, 1).

    Raises
    ------
    ValueError
        Too few cells of types that several batches have.
    """
    n_types = int(code_n.max()) + 1
    n_left, n_below = 0, np.zeros((len(query_nd), n_types))
    for rest, left in _folds(code_n, batch_n):
        classifier = TypeClassifier(known_nd[rest], code_n[rest])
        scored = left[np.isin(code_n[left], code_n[rest])]
        if not len(scored):
            continue
        own_n = classifier(as_query_nd[scored], n_types, FOR_SETS)[np.arange(len(scored)), code_n[scored]]
        n_below += np.searchsorted(np.sort(own_n), classifier(query_nd, n_types, FOR_SETS), side="right")
        n_left += len(scored)
    needed = math.ceil(coverage / (1 - coverage) - 1e-9)
    if n_left < needed:
        raise ValueError(
            f"prediction sets of coverage={coverage:g} need at least {needed} annotated cells to calibrate on, in types that "
            f"several batches have, found {n_left}; annotate more cells, or leave out the sets with coverage=None."
        )
    return (1 + n_below) / (n_left + 1) > 1 - coverage, n_left


def _folds(code_n: np.ndarray, batch_n: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cells to learn from and cells left out: whole batches, or of one batch a fifth of the cells of each type."""
    n_batch = len(np.unique(batch_n))
    if n_batch > 1:
        parts = GroupKFold(min(n_batch, MAX_FOLDS)).split(code_n, groups=batch_n)
    else:
        logger.warning(
            "The annotated cells of the reference are of one batch (reference_batch_key): prediction sets are calibrated on these, "
            "and hold the true type less often in batches that differ."
        )
        n_folds = min(5, len(code_n))
        rare = np.bincount(code_n)[code_n] < n_folds  # which cannot be in each fold
        parts = StratifiedKFold(n_folds, shuffle=True, random_state=0).split(code_n, np.where(rare, -1, code_n))
    for rest, left in parts:
        if len(np.unique(code_n[rest])) > 1:  # nothing is learned of one type
            yield rest, left
