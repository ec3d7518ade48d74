"""Loss curves as scvi-tools keeps them: name → data frame of one column, one row an epoch."""

from collections.abc import Mapping, Sequence

import pandas as pd

History = dict[str, pd.DataFrame]


def to_history(curves: Mapping[str, Sequence[float]]) -> History:
    """Data frames from lists."""
    return {
        name: pd.DataFrame({name: values}, index=pd.RangeIndex(len(values), name="epoch"), dtype=float)
        for name, values in curves.items()
    }


def to_lists(history: Mapping[str, pd.DataFrame] | None, n_epochs: int | None = None) -> dict[str, list[float]]:
    """Lists from data frames, of the first epochs or of all."""
    return {name: frame[name].tolist()[:n_epochs] for name, frame in (history or {}).items()}


def join(earlier: Mapping[str, Sequence[float]], later: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """One curve after the other, name by name."""
    return {name: [*earlier.get(name, ()), *later.get(name, ())] for name in dict.fromkeys([*earlier, *later])}
