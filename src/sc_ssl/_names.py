"""Names are text: of genes, cells, batches, types and drugs, as which they are compared everywhere."""

from typing import Any

import pandas as pd

#: texts that were most likely made of a missing value
LIKE_MISSING = ("", "nan", "NaN", "NA", "<NA>", "None", "NaT")


def as_text(value: Any) -> str:
    """A name as text: 1, 1.0 and ``"1"`` are one name, and bytes are decoded."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    try:
        whole = not isinstance(value, str) and not isinstance(value, bool) and float(value).is_integer()
    except (TypeError, ValueError):
        whole = False
    return str(int(value)) if whole and "bool" not in type(value).__name__ else str(value)


def as_names(values: Any) -> pd.Series:
    """Values as text, ``None`` where missing; of a category its value."""
    values = pd.Series(values)
    codes, distinct = pd.factorize(values.astype(object))
    texts = pd.Series([as_text(value) for value in distinct] + [None], dtype=object)
    return pd.Series(texts.to_numpy()[codes], index=values.index, name=values.name, dtype=object)


def like_missing(names: pd.Series | pd.Index) -> dict[str, int]:
    """Texts such as ``"nan"`` among names, which are taken for names, and how often each is there."""
    found = pd.Series(names)[pd.Series(names).isin(LIKE_MISSING).to_numpy()]
    return {str(text): int(n) for text, n in found.value_counts().items()}
