"""Two methods on the same splits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def paired_compare(
    ours: ArrayLike, theirs: ArrayLike, *, confidence: float = 0.95, n_resamples: int = 9999, random_state: int = 0
) -> pd.Series:
    """Compare the scores of two methods that were run on the same seeds, splits or data sets.

    Parameters
    ----------
    ours, theirs
        (n_runs,) scores, in the same order of runs.
    confidence
        Level of the bootstrap interval, in (0, 1).
    n_resamples
        Bootstrap resamples.
    random_state
        Seed of the bootstrap.

    Returns
    -------
    Series with ``difference`` (mean of ours − theirs), ``low`` and ``high`` (percentile bootstrap interval of that
    mean; NaN for one run), ``p_value`` (two-sided Wilcoxon signed-rank test; 1 when all runs are equal), ``won``
    (share of the runs in which ours is higher, ties half) and ``n``.

    Raises
    ------
    ValueError
        Different numbers of runs, none, or scores that are not finite.

    Examples
    --------
    >>> import sc_ssl
    >>> found = sc_ssl.metrics.paired_compare([0.72, 0.70, 0.75, 0.71], [0.68, 0.69, 0.70, 0.72])
    >>> print(found[["difference", "won"]].round(4).to_dict())
    {'difference': 0.0225, 'won': 0.75}
    """
    a, b = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise ValueError(f"ours and theirs should be as many scores each, at least one, but have {a.shape}, {b.shape}.")
    if not (np.isfinite(a) & np.isfinite(b)).all():
        raise ValueError("scores should be finite; leave out runs that failed in either method.")
    difference = a - b
    low, high = np.nan, np.nan
    if len(a) > 1:
        resampled = np.random.default_rng(random_state).choice(difference, (n_resamples, len(a))).mean(axis=1)
        low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return pd.Series(
        {
            "difference": difference.mean(),
            "low": low,
            "high": high,
            "p_value": wilcoxon(difference).pvalue if difference.any() else 1.0,
            "won": np.mean((difference > 0) + 0.5 * (difference == 0)),
            "n": len(a),
        },
        dtype=float,
    )
