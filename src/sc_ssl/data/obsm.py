"""Values that were measured beside the counts: a table in ``obsm``, with NaN where a cell was not measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from sc_ssl._names import as_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


def obsm_values(adata: AnnData, key: str, names: Sequence[str] | None = None, *, min_cells: int = 2) -> pd.DataFrame:
    """``obsm[key]`` as a table with names, cells × features.

    Parameters
    ----------
    adata
        Cells.
    key
        Name in ``obsm``, of a data frame or of an array.
    names
        The columns wanted, in this order; of an array, the names of its columns, by default ``<key>_0``, ….
    min_cells
        Cells in which each column must have a value.

    Returns
    -------
    float32, NaN where not measured.

    Raises
    ------
    KeyError
        No such key.
    ValueError
        Text, infinite values, too few values in a column; columns that are missing or whose names are not unique.
    """
    if key not in adata.obsm:
        raise KeyError(f"{key!r} is not in adata.obsm, which has {', '.join(adata.obsm) or 'none'}.")
    values = _table(adata.obsm[key], key, adata.obs_names, names)
    names = None if names is None else list(as_names(list(names)))
    if names is not None and list(values.columns) != list(names):
        missing = [name for name in names if name not in values]
        if missing:
            raise ValueError(
                f"obsm[{key!r}] must have the column {missing[0]!r}; it has {', '.join(values.columns[:5])}, …."
            )
        values = values[list(names)]
    bad = np.isinf(values.to_numpy())
    if bad.any():
        n, f = np.argwhere(bad)[0]
        raise ValueError(
            f"obsm[{key!r}] must be finite or NaN, found inf in cell {adata.obs_names[n]!r}, {values.columns[f]!r}."
        )
    empty = values.columns[values.notna().sum(axis=0) < min_cells]
    if len(empty):
        raise ValueError(
            f"obsm[{key!r}] must have values in at least {min_cells} cells for each column, found fewer in {empty[0]!r}."
        )
    return values


def _table(matrix: Any, key: str, cells: pd.Index, names: Sequence[str] | None) -> pd.DataFrame:
    """A data frame, or an array with these names, as a float32 table; an error unless each column has its own name."""
    if isinstance(matrix, pd.DataFrame):
        matrix = matrix.set_axis(pd.Index(as_names(list(matrix.columns))), axis=1)
    named = pd.Index(
        matrix.columns if isinstance(matrix, pd.DataFrame) else [] if names is None else as_names(list(names))
    )
    if named.hasnans:
        raise ValueError(f"each column of {key!r} needs a name, found one that is missing.")
    if not named.is_unique:
        raise ValueError(
            f"each column of {key!r} needs a name of its own, found {named[named.duplicated()][0]!r} more than once."
        )
    if isinstance(matrix, pd.DataFrame):
        text = [column for column in matrix if not is_numeric_dtype(matrix[column])]
        if text:
            raise ValueError(f"obsm[{key!r}] must hold numbers, found {matrix[text[0]].dtype} in column {text[0]!r}.")
        return matrix.astype(np.float32)
    matrix = matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)
    columns = [f"{key}_{i}" for i in range(matrix.shape[1])] if names is None else list(named)
    if len(columns) != matrix.shape[1]:
        raise ValueError(f"obsm[{key!r}] has {matrix.shape[1]} columns, found {len(columns)} names for them.")
    return pd.DataFrame(matrix.astype(np.float32), index=cells, columns=columns)
