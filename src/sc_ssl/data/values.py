"""What the values of a matrix are: counts, corrected counts, normalised, log-normalised or scaled values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from scipy import sparse

from .rows import SAMPLED_BLOCK, evenly_spread, is_backed, take_rows, to_csr

if TYPE_CHECKING:
    from collections.abc import Callable


#: what functions and models can be given
Kind = Literal["counts", "log1p", "scaled"]
#: what a matrix may hold
Found = Literal["counts", "corrected", "normalized", "log1p", "scaled"]

#: rows and values looked at to tell them apart, and rows of which ratios are looked at
N_SAMPLED_ROWS, N_SAMPLED_VALUES, N_RATIO_ROWS = 512, 100_000, 64
#: how far from a whole number a count may lie
WHOLE = 1e-3
#: no logarithm of normalised counts is larger: log2 of a million is 19.9
MAX_LOG = 20.0
#: share of the values that are whole from which on fractions are what a correction of counts left
MOSTLY_WHOLE = 0.5
#: share of ratios that are whole from which on a cell's values are multiples of one number, and how whole
MULTIPLES, WHOLE_RATIO, MAX_RATIO = 0.8, 0.02, 50
#: sums of cells that are equal to this share were made equal
EQUAL_SUMS = 1e-3
#: median of fractional counts at most, where normalised values lie above; share of values in [0.5, 1], where a count of
#: one lies when some of it was taken off
SMALL_MEDIAN, SHARE_NEAR_ONE = 5.0, 0.4

MEANING: dict[str, str] = {
    "counts": "raw counts (non-negative integers)",
    "corrected": "fractional counts, as a correction for ambient RNA leaves (SoupX, CellBender)",
    "normalized": "normalised values that are not logged (CP10k, CPM or TPM)",
    "log1p": "log-normalised values (fractions, no negatives)",
    "scaled": "scaled values (with negatives)",
}


class Values(NamedTuple):
    """What a matrix holds, the largest value that was looked at, and whether counts are whole to the last bit."""

    kind: Found
    largest: float
    exact: bool


def describe_matrix(matrix: Any) -> Found:
    """What the matrix holds, from up to 100,000 stored values, evenly spread and always the same ones.

    ``"counts"``: whole numbers ≥ 0, to 0.001. ``"scaled"``: some negative values. Else fractions: ``"normalized"``,
    multiples of one number in each cell, equal sums, or values above 20 that are not small; ``"corrected"``, mostly whole,
    or otherwise like counts; ``"log1p"``, the others. Values that are no numbers are left out here.
    """
    return describe_values(matrix).kind


def describe_values(matrix: Any) -> Values:
    """The same, and what else was seen."""
    block = SAMPLED_BLOCK if is_backed(matrix) else 1
    if sparse.issparse(matrix) and not matrix.dtype.isnative:
        matrix = to_csr(matrix)
    rows = take_rows(matrix, evenly_spread(matrix.shape[0], N_SAMPLED_ROWS, block=block))
    values = rows.data[np.isfinite(rows.data) & (rows.data != 0)]  # NaN is no kind of its own
    sample = values[:: max(1, len(values) // N_SAMPLED_VALUES)].astype(np.float64)
    if not len(values):
        return Values("counts", 0.0, True)
    largest = float(values.max())
    if values.min() < 0:
        return Values("scaled", largest, False)
    nearest = np.round(sample)
    whole = (np.abs(sample - nearest) <= WHOLE) & (nearest >= 1)
    if whole.all():
        return Values("counts", largest, np.array_equal(sample, nearest))
    return Values(_of_fractions(rows, sample, largest, float(whole.mean())), largest, False)


def _of_fractions(rows: sparse.csr_matrix, sample: np.ndarray, largest: float, share_whole: float) -> Found:
    if share_whole >= MOSTLY_WHOLE:
        return "corrected"
    cells = _cells(rows)
    linear = _multiples(cells, lambda v: v)
    logs = max(_multiples(cells, lambda v, base=base: np.expm1(v * np.log(base))) for base in (np.e, 2.0, 10.0))
    if linear >= MULTIPLES and linear > logs:
        return "normalized"
    if logs >= MULTIPLES and largest <= MAX_LOG:
        return "log1p"
    if _equal([float(v.sum()) for v in cells]):
        return "normalized"
    if largest <= MAX_LOG and _equal([float(np.expm1(v).sum()) for v in cells]):
        return "log1p"
    if largest > MAX_LOG:
        return "corrected" if np.median(sample) < SMALL_MEDIAN else "normalized"
    near_one = ((sample >= 0.5) & (sample <= 1)).mean()
    return "corrected" if near_one >= SHARE_NEAR_ONE and not _repeat(cells) else "log1p"


def _cells(rows: sparse.csr_matrix) -> list[np.ndarray]:
    """The values of some cells that have a few."""
    cells = np.split(rows.data.astype(np.float64), rows.indptr[1:-1])
    cells = [v[np.isfinite(v) & (v > 0)] for v in cells]
    cells = [v for v in cells if len(v) >= 5]
    return [cells[i] for i in evenly_spread(len(cells), N_RATIO_ROWS)] if cells else []


def _multiples(cells: list[np.ndarray], undo: Callable[[np.ndarray], np.ndarray]) -> float:
    """Share of the values, taken back by ``undo``, that are multiples of their cell's least, as of a count of one."""
    with np.errstate(over="ignore", invalid="ignore"):  # of what is no logarithm
        ratios = [undo(v) / undo(v.min()) for v in cells]
    ratio = np.concatenate(ratios) if ratios else np.array([])
    ratio = ratio[np.isfinite(ratio) & (ratio > 1 + WHOLE_RATIO) & (ratio < MAX_RATIO)]
    return float((np.abs(ratio - np.round(ratio)) <= WHOLE_RATIO).mean()) if len(ratio) else 0.0


def _repeat(cells: list[np.ndarray]) -> bool:
    """Whether most values of a cell are there more than once, as those made of counts are; what a correction takes differs."""
    return bool(cells) and float(np.mean([len(np.unique(v)) / len(v) for v in cells])) < 0.5


def _equal(sums: list[float]) -> bool:
    return len(sums) > 1 and float(np.std(sums)) < EQUAL_SUMS * float(np.mean(sums))
