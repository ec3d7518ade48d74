"""Cell types in a column of ``obs``, and the names that a classifier learns from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sc_ssl._names import as_names, as_text
from sc_ssl.data import obs_column, warn_like_missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


#: more types of a single cell than this, and than half of the cells, labelled or not, are no types
MANY_ALONE = 20


def read_types(adata: AnnData, key: str, unlabeled_category: str) -> pd.Series:
    """Types as strings, missing where there is none."""
    label = as_names(obs_column(adata, key))
    return label.where((label != as_text(unlabeled_category)).to_numpy(), None)


def type_names(label: pd.Series, key: str) -> list[str]:
    """The types that are there, at least two, in order."""
    warn_like_missing(label, key)
    names = sorted(label.dropna().unique())
    if len(names) < 2:
        raise ValueError(
            f"obs[{key!r}] should name at least two types, found {names or 'none: all cells are unlabelled'}."
        )
    alone = lone_types(label)
    if len(alone) > MANY_ALONE and len(alone) > len(label) / 2:
        raise ValueError(
            f"obs[{key!r}] should name types of several cells, found {len(alone)} that one cell has, such as {alone[0]!r}; "
            "is it the right column?"
        )
    return names


def lone_types(label: pd.Series) -> list[str]:
    """Types of a single cell."""
    return [name for name, n in label.value_counts().items() if n == 1]


def type_codes(adata: AnnData, key: str, unlabeled_category: str, names: Sequence[str]) -> np.ndarray | None:
    """Position of each cell's type among the names, −1 for other types and none, (n,); ``None`` without the column."""
    return pd.Index(names).get_indexer(read_types(adata, key, unlabeled_category)) if key in adata.obs else None


def labelled_cells(code_n: np.ndarray | None, key: str, names: Sequence[str]) -> np.ndarray:
    """Positions of the cells whose type is known; an error when there is none."""
    if code_n is None or (code_n < 0).all():
        raise ValueError(
            f"labelled cells are needed: obs[{key!r}] is missing, or names none of {', '.join(names[:5])}."
        )
    return np.flatnonzero(code_n >= 0)
