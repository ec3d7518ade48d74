"""How well values are predicted: explained variance of genes, correlation of proteins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.sparse import issparse

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import spmatrix

    Matrix = NDArray[Any] | spmatrix | pd.DataFrame


def explained_variance(measured: Matrix, predicted: Matrix, *, weighted: bool = True) -> float:
    """Share of the genes' variance that a prediction explains, ``1 − Var(x − x̂) / Var(x)``; at most 1.

    A shift of a whole gene is not counted as an error. Entries where the prediction is NaN are left out, as
    ``MaskedAutoencoder.get_reconstruction`` marks those that a mask does not score; genes that do not
    vary, or have under two entries, are left out. ``MaskedAutoencoder.get_explained_variance`` does both in one call.

    Parameters
    ----------
    measured
        (n_cells, n_genes), on the scale of the prediction, for example log-normalised; finite.
    predicted
        Same shape.
    weighted
        Each gene by its variance, which is what Richter et al. (2024) report; otherwise all genes alike, which is lower
        and may be far below 0.

    Raises
    ------
    ValueError
        Shapes, or the names of two tables, that differ; nothing to score.

    Examples
    --------
    >>> import numpy as np
    >>> import sc_ssl
    >>> measured = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 2.0]])
    >>> sc_ssl.metrics.explained_variance(measured, measured)
    1.0
    """
    x_ng, predicted_ng = _pair(measured, predicted)
    scored_ng = ~np.isnan(predicted_ng)
    n_g = scored_ng.sum(axis=0)
    x_ng = np.where(scored_ng, x_ng, 0)
    residual_ng = np.where(scored_ng, x_ng - np.nan_to_num(predicted_ng), 0)
    variance_g, unexplained_g = (_variance(values, scored_ng, n_g) for values in (x_ng, residual_ng))
    kept = (n_g > 1) & (variance_g > 1e-12)
    if not kept.any():
        raise ValueError("no gene varies over at least two cells with a prediction; nothing can be explained.")
    if weighted:
        return float(1 - unexplained_g[kept].sum() / variance_g[kept].sum())
    return float(np.mean(1 - unexplained_g[kept] / variance_g[kept]))


def pearson(measured: Matrix, predicted: Matrix) -> dict[str, float]:
    """Pearson correlation of measured and predicted values, in the three ways in which papers report it.

    Parameters
    ----------
    measured, predicted
        (n_cells, n_features), for example proteins; finite, on the same scale.

    Returns
    -------
    ``per_feature``: the mean over features of the correlation over cells, which measures differences between cells.
    ``per_cell``: the mean over cells of that over features. ``flattened``: that over all entries at once (the headline
    of Richter et al. 2024), most of which is what features are on average. Rows that do not vary are left out; NaN when
    none is left.

    Raises
    ------
    ValueError
        Shapes, or the names of two tables, that differ; values that are NaN or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> import sc_ssl
    >>> measured = np.array([[0.0, 1.0, 5.0], [2.0, 3.0, 1.0], [4.0, 2.0, 0.0]])
    >>> round(sc_ssl.metrics.pearson(measured, 2 * measured + 1)["per_feature"], 6)
    1.0
    """
    x_nf, predicted_nf = _pair(measured, predicted)
    if not (np.isfinite(x_nf).all() and np.isfinite(predicted_nf).all()):
        raise ValueError("measured and predicted values must be finite, found NaN or infinite ones; leave them out.")
    return {
        "per_feature": _mean_correlation(x_nf.T, predicted_nf.T),
        "per_cell": _mean_correlation(x_nf, predicted_nf),
        "flattened": _mean_correlation(x_nf.reshape(1, -1), predicted_nf.reshape(1, -1)),
    }


def _pair(measured: Matrix, predicted: Matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as arrays; of two tables the names must stand in one order."""
    if isinstance(measured, pd.DataFrame) and isinstance(predicted, pd.DataFrame) and measured.shape == predicted.shape:
        for what, ours, theirs in (
            ("rows", measured.index, predicted.index),
            ("columns", measured.columns, predicted.columns),
        ):
            differ = _differing(ours, theirs)
            if len(differ):
                names = [index.tolist()[differ[0]] for index in (ours, theirs)]
                raise ValueError(
                    f"measured and predicted have the same {what} in the same order; at {differ[0]} found {names[0]!r} and "
                    f"{names[1]!r}. Reindex one by the other."
                )
    first, second = (
        np.asarray(matrix.toarray() if issparse(matrix) else matrix, dtype=np.float64)
        for matrix in (measured, predicted)
    )
    if first.ndim != 2 or first.shape != second.shape or 0 in first.shape:
        raise ValueError(
            f"measured and predicted have one shape, cells × features; found {first.shape}, {second.shape}."
        )
    return first, second


def _differing(ours: pd.Index, theirs: pd.Index) -> NDArray[np.int64]:
    """Where two indexes differ; one that only counts has no names to compare with names."""
    for index, other in ((ours, theirs), (theirs, ours)):
        if isinstance(index, pd.RangeIndex) and not pd.api.types.is_integer_dtype(other):
            return np.empty(0, dtype=np.int64)
    first, second = (np.asarray(index, dtype=object) for index in (ours, theirs))
    return np.flatnonzero((first != second) & ~(pd.isna(first) & pd.isna(second)))


def _variance(values_ng: NDArray[Any], scored_ng: NDArray[Any], n_g: NDArray[Any]) -> NDArray[np.float64]:
    """Variance of each gene over scored entries; the others hold 0."""
    mean_g = values_ng.sum(axis=0) / np.maximum(n_g, 1)
    return np.square(np.where(scored_ng, values_ng - mean_g, 0)).sum(axis=0) / np.maximum(n_g, 1)


def _mean_correlation(x_rm: NDArray[Any], y_rm: NDArray[Any]) -> float:
    """Mean over rows of the correlation of two rows."""
    x_rm, y_rm = (rows - rows.mean(axis=1, keepdims=True) for rows in (x_rm, y_rm))
    norm_r = np.linalg.norm(x_rm, axis=1) * np.linalg.norm(y_rm, axis=1)
    kept = norm_r > 1e-12
    return float(np.mean((x_rm * y_rm).sum(axis=1)[kept] / norm_r[kept])) if kept.any() else float("nan")
