"""How well predicted probabilities of cell types agree with the annotation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.metrics import (
    accuracy_score,
    adjusted_rand_score,
    average_precision_score,
    cohen_kappa_score,
    f1_score,
    rand_score,
    roc_auc_score,
)

from sc_ssl._names import as_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray


def classification(
    y_true: ArrayLike,
    proba: ArrayLike,
    classes: Sequence[str],
    *,
    min_support: int = 10,
    n_bins: int = 10,
    hierarchy: Mapping[str, str] | None = None,
) -> pd.Series:
    """Score probabilities of cell types: ranking, decisions and calibration.

    Areas under curves are taken from probabilities, one type against the rest, and averaged over the types that some
    but not all cells have; AUPRC is average precision, not the trapezoid under the precision–recall curve, which is
    too high for rare types. The Rand index and its adjusted form, which papers confuse, stand apart.

    Parameters
    ----------
    y_true
        (n_cells,) annotated types, compared as strings; a type that is not among ``classes`` can only be predicted wrongly.
    proba
        (n_cells, n_classes) probabilities, columns in the order of ``classes``; rows sum to 1.
    classes
        Names of the types predicted.
    min_support
        Cells that a type needs to count in ``macro_f1_supported``.
    n_bins
        Bins of equal width for the calibration error.
    hierarchy
        Type → the broader type that it belongs to, over as many levels as there are, for example ``{"CD4 T": "T", "T":
        "lymphocyte"}``. A cell that is named after a subtype of its annotated type is then named rightly, as in Richter et
        al. (2024); one that is named after a broader type is not. Areas under curves are of the types as they are.

    Returns
    -------
    Series with these entries:

    ``accuracy`` (which is micro F1), ``kappa``
        Share of cells that are right; Cohen's kappa, which is 0 at chance.
    ``macro_f1``, ``macro_f1_supported``
        Mean F1 over the annotated types, and over those with ``min_support`` cells (NaN if there is none).
    ``auroc``, ``auprc``
        Means over types of the area under the ROC curve and of average precision; NaN if all cells have one type.
    ``rand``, ``adjusted_rand``
        Of the predicted against the annotated partition.
    ``calibration_error``
        Expected calibration error: mean gap between the probability of the predicted type and how often it is right.
    ``n_classes``
        Number of types over which ``auroc`` and ``auprc`` are averaged.

    Raises
    ------
    ValueError
        Shapes that do not fit, repeated classes, missing values, rows that are no probabilities, or a hierarchy in which
        a type is above itself.

    References
    ----------
    Richter et al. (2024), Nature Machine Intelligence 7:68.

    Examples
    --------
    >>> import sc_ssl
    >>> proba = [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]]
    >>> scores = sc_ssl.metrics.classification(["B", "B", "T", "T"], proba, ["B", "T"])
    >>> print(scores[["accuracy", "macro_f1", "auroc"]].round(2).to_dict())
    {'accuracy': 0.75, 'macro_f1': 0.73, 'auroc': 1.0}
    """
    proba_nk, true_n, class_k = _check(y_true, proba, classes)
    parent = dict(zip(as_names(list(hierarchy)), as_names(list(hierarchy.values())), strict=True)) if hierarchy else {}
    predicted_n = _lifted(class_k[proba_nk.argmax(axis=1)], true_n, parent)
    support = pd.Series(true_n).value_counts()
    f1 = pd.Series(f1_score(true_n, predicted_n, labels=support.index, average=None, zero_division=0), support.index)
    ranked = [k for k, name in enumerate(class_k) if 0 < support.get(name, 0) < len(true_n)]
    against_rest = [(true_n == class_k[k], proba_nk[:, k]) for k in ranked]
    one_type = len(support) == 1 and set(predicted_n) == set(true_n)  # kappa is 0 / 0 there
    return pd.Series(
        {
            "accuracy": accuracy_score(true_n, predicted_n),
            "kappa": np.nan if one_type else cohen_kappa_score(true_n, predicted_n),
            "macro_f1": f1.mean(),
            "macro_f1_supported": f1[support >= min_support].mean(),
            "auroc": _mean([roc_auc_score(is_k, score) for is_k, score in against_rest]),
            "auprc": _mean([average_precision_score(is_k, score) for is_k, score in against_rest]),
            "rand": rand_score(true_n, predicted_n),
            "adjusted_rand": adjusted_rand_score(true_n, predicted_n),
            "calibration_error": _calibration_error(predicted_n == true_n, proba_nk.max(axis=1), n_bins),
            "n_classes": len(ranked),
        },
        dtype=float,
    )


def _lifted(
    predicted_n: NDArray[np.object_], true_n: NDArray[np.object_], parent: Mapping[str, str]
) -> NDArray[np.object_]:
    """The predicted names, the annotated one where that is among what the predicted one belongs to."""
    above = {name: _ancestors(name, parent) for name in set(predicted_n)}
    pairs = zip(predicted_n, true_n, strict=True)
    return np.array([true if true in above[name] else name for name, true in pairs], dtype=object)


def _ancestors(name: str, parent: Mapping[str, str]) -> set[str]:
    found: set[str] = set()
    while name in parent:
        name = parent[name]
        if name in found:
            raise ValueError(f"hierarchy should lead from a type to broader ones, but {name!r} is above itself.")
        found.add(name)
    return found


def _calibration_error(right_n: NDArray[np.bool_], confidence_n: NDArray[np.floating], n_bins: int) -> float:
    """Guo et al. (2017), On calibration of modern neural networks, eq. 3."""
    bin_n = np.clip(np.ceil(confidence_n * n_bins).astype(int) - 1, 0, n_bins - 1)
    gap_b = np.bincount(bin_n, right_n - confidence_n, minlength=n_bins)
    return float(np.abs(gap_b).sum() / len(right_n))


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else np.nan


def _check(
    y_true: ArrayLike, proba: ArrayLike, classes: Sequence[str]
) -> tuple[NDArray[np.floating], NDArray[np.object_], NDArray[np.object_]]:
    true = as_names(np.asarray(y_true))
    class_k = as_names(np.asarray(classes)).to_numpy()
    if isinstance(proba, pd.DataFrame) and (columns := list(as_names(proba.columns))) != list(class_k):
        raise ValueError(
            f"the columns of proba should be classes in their order, {', '.join(class_k[:5])}, but are "
            f"{', '.join(columns[:5])}; pass classes=proba.columns."
        )
    proba_nk = np.asarray(proba, dtype=float)
    if proba_nk.shape != (len(true), len(class_k)) or not len(true):
        raise ValueError(
            f"proba should have shape (n_cells, n_classes), here ({len(true)}, {len(class_k)}), with at least one cell, "
            f"but has {proba_nk.shape}."
        )
    if len(set(class_k)) < len(class_k):
        raise ValueError(f"classes should differ, but {pd.Series(class_k).mode()[0]!r} is there more than once.")
    if true.isna().any():
        raise ValueError(f"y_true should name the type of each cell, but {true.isna().sum()} are missing.")
    bad = np.flatnonzero(~(np.isfinite(proba_nk).all(axis=1) & (proba_nk >= 0).all(axis=1)))
    off = np.flatnonzero(np.abs(proba_nk.sum(axis=1) - 1) > 1e-3)
    if len(bad) or len(off):
        row = int(bad[0] if len(bad) else off[0])
        raise ValueError(f"rows of proba should be probabilities that sum to 1, but row {row} is {proba_nk[row]}.")
    return proba_nk, true.to_numpy(), class_k
