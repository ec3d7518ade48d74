"""A table of scores as a heat table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sc_ssl.pl._figure import finish, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL = (1.05, 0.42)  # inches
CHARACTER, GROUP_CHARACTER = 0.085, 0.1  # inches, of a number or name, and of the bold name of a data set
AXES = {"rows": "index", "columns": "columns"}
PUBLISHED = {"color": "0.15", "fontsize": 6.5, "style": "italic"}


def score_table(
    scores: pd.DataFrame,
    *,
    sd: pd.DataFrame | None = None,
    published: pd.DataFrame | None = None,
    digits: int = 2,
    cmap: str = "YlGnBu",
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot a table of scores as a heat table: methods down, data sets and measures across.

    Each column has its own colour scale, from its lowest score (pale) to its highest (dark), because measures and data
    sets differ in their range; the highest is set in bold. Published numbers stand in italics below ours; they take no
    part in the colours.

    Parameters
    ----------
    scores
        Methods × measures, or methods × (data set, measure) with a MultiIndex of two levels. Higher is better. NaN
        leaves a cell empty, and a column without any number is left out.
    sd
        Standard deviations, with the same rows and columns.
    published
        Numbers to set beside, whose rows and columns are among those of ``scores``.
    digits
        Digits after the point.
    cmap
        Colour map.
    ax
        Axes to draw into. Default: a new figure.
    show
        Show the figure. Default: ``scanpy.settings.autoshow``.
    return_fig
        Return the figure.

    Returns
    -------
    The figure if ``return_fig``, None if shown, else the Axes.

    Raises
    ------
    ValueError
        If there is nothing to show, rows or columns repeat, or those of ``sd`` or ``published`` are not among those of
        ``scores``.

    Examples
    --------
    >>> import pandas as pd
    >>> import sc_ssl
    >>> scores = pd.DataFrame({"ARI": [0.68, 0.74], "NMI": [0.75, 0.75]}, index=["masksc", "contrastive_sc"])
    >>> ax = sc_ssl.pl.score_table(scores, show=False)
    """
    if not isinstance(scores, pd.DataFrame):
        raise TypeError(f"scores is a table, a pandas DataFrame, found a {type(scores).__name__}.")
    _check(scores, sd=sd, published=published)
    sd, published = (_aligned(table, scores) for table in (sd, published))
    filled = (scores.notna() | published.notna()).any()  # a column without any number is left out
    scores, sd, published = (table.loc[:, filled] for table in (scores, sd, published))
    n_rows, n_cols = scores.shape
    label_width = CHARACTER * max(len(str(name)) for name in scores.index)
    cell_width = _cell_width(scores, sd, digits)
    size = (label_width + cell_width * n_cols, 0.7 + CELL[1] * n_rows)
    panel = panels(1, n_cols=1, size=size)[0] if ax is None else ax
    shade = scores.apply(_scaled).to_numpy(dtype=float)
    # the darkest colours are left out: black text has to be read on all of them
    panel.imshow(np.ma.masked_invalid(shade), cmap=cmap, vmin=-0.1, vmax=1.8, aspect="auto")
    best_c = scores.max().to_numpy()
    for row, col in np.ndindex(n_rows, n_cols):
        value, beside = scores.iloc[row, col], published.iloc[row, col]
        ours = _text(value, sd.iloc[row, col], digits)
        shift = 0.16 if ours and not np.isnan(beside) else 0
        weight = "bold" if value == best_c[col] else "normal"
        panel.text(col, row - shift, ours, ha="center", va="center", fontsize=8, weight=weight)
        panel.text(col, row + 1.4 * shift, _text(beside, np.nan, digits), ha="center", va="center", **PUBLISHED)
    _decorate(panel, scores, cell_width)
    return finish([panel], show=show, return_fig=return_fig)


def _cell_width(scores: pd.DataFrame, sd: pd.DataFrame, digits: int) -> float:
    """Inches of a column: its numbers fit in, and the name of a data set over its columns in two lines."""
    numbers = CHARACTER * (2 * digits + 8 if sd.notna().any(axis=None) else digits + 4)
    if not isinstance(scores.columns, pd.MultiIndex):
        return max(CELL[0], numbers)
    n_of_group = scores.columns.get_level_values(0).value_counts(sort=False)
    wanted = max(GROUP_CHARACTER * _longest_line(str(name)) / n for name, n in n_of_group.items())
    return max(CELL[0], numbers, wanted)


def _longest_line(name: str) -> int:
    """Characters of the longer line when a name is broken into two."""
    return max(map(len, _two_lines(name).split("\n")))


def _two_lines(name: str) -> str:
    """A long name broken after the word, or the underscore, that makes the lines most alike."""
    places = [place for place, character in enumerate(name) if character in " _" and len(name) > 14]
    if not places:
        return name
    middle = min(places, key=lambda place: abs(place - len(name) / 2))
    return name[: middle + 1].rstrip() + "\n" + name[middle + 1 :]


def _scaled(column: pd.Series) -> pd.Series:
    """From 0, the lowest, to 1, the highest; one score alone is 1."""
    low, high = column.min(), column.max()
    return (column - low) / (high - low) if high > low else column * 0 + 1


def _text(value: float, sd: float, digits: int) -> str:
    if np.isnan(value):
        return ""
    return f"{value:.{digits}f}" if np.isnan(sd) else f"{value:.{digits}f} ± {sd:.{digits}f}"


def _decorate(panel: Axes, scores: pd.DataFrame, cell_width: float) -> None:
    n_rows, n_cols = scores.shape
    paired = isinstance(scores.columns, pd.MultiIndex)
    measures = [column[-1] if paired else column for column in scores.columns]
    panel.set_yticks(range(n_rows), [str(name) for name in scores.index])
    panel.set_xticks(range(n_cols), [str(measure) for measure in measures])
    panel.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0, labelsize=8)
    if CHARACTER * max(len(line) for measure in measures for line in str(measure).split("\n")) > cell_width:
        for label in panel.get_xticklabels():  # they would run into each other
            label.set(rotation=25, ha="left", rotation_mode="anchor")
    panel.set_xticks(np.arange(1, n_cols) - 0.5, minor=True)
    panel.set_yticks(np.arange(1, n_rows) - 0.5, minor=True)
    panel.grid(which="minor", color="white", linewidth=1.5)
    panel.tick_params(which="minor", length=0, top=False)
    panel.spines[:].set_visible(False)
    if not paired:
        return
    groups = scores.columns.get_level_values(0)
    rotated = panel.get_xticklabels()[0].get_rotation() > 0
    longest = max(len(line) for measure in measures for line in str(measure).split("\n"))
    # points; names at an angle of 25° rise by the sine of it
    above = 18 + 11 * max(str(measure).count("\n") for measure in measures) + (2.4 * longest if rotated else 0)
    for name in dict.fromkeys(groups):
        at = np.flatnonzero(groups == name)
        panel.annotate(
            _two_lines(str(name)), (at.mean(), 1), (0, above), xycoords=("data", "axes fraction"), textcoords="offset points",
            ha="center", va="bottom", fontsize=9, weight="bold",
        )  # fmt: skip
        if at[0]:
            panel.axvline(at[0] - 0.5, color="0.3", linewidth=1)


def _aligned(table: pd.DataFrame | None, scores: pd.DataFrame) -> pd.DataFrame:
    """The table with the rows and columns of the scores, NaN where it has nothing."""
    if table is None:
        return pd.DataFrame(np.nan, index=scores.index, columns=scores.columns)
    return table.reindex(index=scores.index, columns=scores.columns).astype(float)


def _check(scores: pd.DataFrame, **others: pd.DataFrame | None) -> None:
    if not scores.size:
        raise ValueError(f"scores should have at least one method and one measure, but has shape {scores.shape}.")
    for axis, names in (("rows", scores.index), ("columns", scores.columns)):
        if not names.is_unique:
            raise ValueError(f"{axis} of scores should differ, but {list(names[names.duplicated()])} repeat.")
        for name, table in others.items():
            strange = [] if table is None else [label for label in getattr(table, AXES[axis]) if label not in names]
            if strange:
                raise ValueError(f"{axis} of {name} should be among those of scores, but {strange[:5]} are not.")
