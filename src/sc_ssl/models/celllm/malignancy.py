"""Labels of malignant cells, and whether they are batches in disguise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sc_ssl._logging import logger
from sc_ssl._names import as_names, as_text
from sc_ssl.data import obs_column

if TYPE_CHECKING:
    from anndata import AnnData


#: minibatches' name for the labels: 1 malignant, 0 not, NaN unknown
MALIGNANT = "malignant"
#: a label that follows from the batch for this share of the cells can be learnt from the batch alone
SHARE_BY_BATCH = 0.98


def check_malignancy(adata: AnnData | None, batch_n: np.ndarray | None, key: str | None, category: str | None) -> None:
    """Refuse labels that there are not, before anything is trained; warn about labels that follow from the batch."""
    if key is None and category is not None:
        raise ValueError(f"malignant_category={category!r} is of a column: name it with malignancy_key.")
    if key is not None and adata is not None and batch_n is not None:
        warn_of_batches(malignancy_labels(adata, key, category), batch_n, key)


def malignancy_labels(adata: AnnData, key: str, category: str | None = None) -> np.ndarray:
    """1 for malignant cells, 0 for others, NaN where unknown; (n,) float32.

    Raises
    ------
    KeyError
        The column is not there.
    ValueError
        Neither booleans nor a category that is there; only one class.
    """
    column = obs_column(adata, key)
    known = column.notna().to_numpy()
    if category is not None:
        positive = (as_names(column) == as_text(category)).to_numpy()
    elif pd.api.types.is_bool_dtype(column) or set(column[known].unique()) <= {True, False}:
        positive = column.eq(True).fillna(False).to_numpy(dtype=bool)
    else:
        names = ", ".join(repr(str(name)) for name in column[known].unique()[:5])
        raise ValueError(f"obs[{key!r}] has {names}; specify which one is malignant by malignant_category.")
    if len(np.unique(positive[known])) < 2:
        found = ", ".join(repr(str(name)) for name in column[known].unique()[:5]) or "nothing"
        raise ValueError(
            f"obs[{key!r}] must have malignant and other cells, found {found} only"
            + (f" and no {category!r}" if category is not None and not positive.any() else "")
            + "; leave out malignancy_key, or add cells of the other class."
        )
    return np.where(known, positive, np.nan).astype(np.float32)


def warn_of_batches(y_n: np.ndarray, batch_n: np.ndarray, key: str) -> None:
    """Log a warning when the batch determines the label, which can then be learnt without any biology."""
    known = np.isfinite(y_n)
    if len(np.unique(batch_n[known])) < 2:
        return
    table = pd.crosstab(batch_n[known], y_n[known])
    # cells that the best guess from their batch gets right; no news where the best guess without it does as well
    by_batch = table.max(axis=1).sum() / known.sum()
    if by_batch >= SHARE_BY_BATCH > table.sum(axis=0).max() / known.sum():
        logger.warning(
            "The batch determines obs[%r] for %.0f %% of the cells: the malignancy term can be learnt from batch effects alone. "
            "Use studies that have both kinds of cells, or leave out malignancy_key.",
            key,
            100 * by_batch,
        )
