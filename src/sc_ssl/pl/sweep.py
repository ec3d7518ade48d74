"""A score over two settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import Normalize

from sc_ssl.pl._figure import finish, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osD^vP*X"


def sweep(
    scores: pd.DataFrame,
    *,
    sd: pd.DataFrame | None = None,
    measure: str = "score",
    kind: Literal["lines", "heatmap"] = "lines",
    cmap: str = "viridis",
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot a score over two settings, as a line for each row or as a heat map (figure 5 of mask-sc).

    Parameters
    ----------
    scores
        One setting down, one across, e.g. the size of the matrix and the share of it that is hidden; the names of
        index and columns become labels. NaN: not run.
    sd
        Standard deviations, with the same rows and columns: error bars, or a second number.
    measure
        What the score is.
    kind
        ``"lines"`` or ``"heatmap"``.
    cmap
        Colour map; of the heat map, or of the lines from the first row to the last.
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
        If there is no score, ``kind`` is unknown, or ``sd`` has other rows and columns; for lines, if the setting
        across is not a number.

    Examples
    --------
    >>> import pandas as pd
    >>> import sc_ssl
    >>> scores = pd.DataFrame([[0.5, 0.6], [0.6, 0.7]], index=[36, 64], columns=[50, 75])
    >>> ax = sc_ssl.pl.sweep(scores.rename_axis(index="edge", columns="hidden (%)"), measure="ARI", show=False)
    """
    if not isinstance(scores, pd.DataFrame):
        raise TypeError(f"scores is a table, a pandas DataFrame, found a {type(scores).__name__}.")
    _check(scores, sd, kind)
    panel = panels(1, n_cols=1, size=(4.6, 3.4))[0] if ax is None else ax
    draw = _lines if kind == "lines" else _heatmap
    draw(panel, scores, sd, measure, cmap)
    return finish([panel], show=show, return_fig=return_fig)


def _lines(panel: Axes, scores: pd.DataFrame, sd: pd.DataFrame | None, measure: str, cmap: str) -> None:
    color = colormaps[cmap](np.linspace(0.05, 0.85, len(scores)))  # the palest is not seen on white
    for i, name in enumerate(scores.index):
        values = scores.loc[name].dropna()
        error = None if sd is None else sd.loc[name, values.index].fillna(0)
        style = {"marker": MARKERS[i % len(MARKERS)], "markersize": 4, "linewidth": 1.6, "capsize": 2}
        panel.errorbar(values.index, values, yerr=error, color=color[i], label=str(name), **style)
    panel.set_xticks(scores.columns, [f"{value:g}" for value in scores.columns])
    panel.set(xlabel=scores.columns.name or "", ylabel=measure)
    panel.grid(alpha=0.25, linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(title=scores.index.name, framealpha=0.7, edgecolor="none", fontsize="small", title_fontsize="small")


def _heatmap(panel: Axes, scores: pd.DataFrame, sd: pd.DataFrame | None, measure: str, cmap: str) -> None:
    value_rc = np.ma.masked_invalid(scores.to_numpy(dtype=float))
    drawn = panel.imshow(value_rc, cmap=cmap, aspect="auto")
    scale = Normalize(value_rc.min(), value_rc.max())
    for row, col in zip(*np.nonzero(~value_rc.mask * np.ones(value_rc.shape)), strict=True):
        text = f"{value_rc[row, col]:.2f}" + ("" if sd is None else f"\n± {sd.iloc[row, col]:.2f}")
        shade = np.dot(colormaps[cmap](scale(value_rc[row, col]))[:3], (0.3, 0.59, 0.11))  # luma of the cell
        panel.text(col, row, text, ha="center", va="center", fontsize=8, color="black" if shade > 0.5 else "white")
    panel.set_xticks(range(scores.shape[1]), [_label(value) for value in scores.columns])
    panel.set_yticks(range(scores.shape[0]), [_label(value) for value in scores.index])
    panel.set(xlabel=scores.columns.name or "", ylabel=scores.index.name or "")
    panel.spines[:].set_visible(False)
    bar = panel.figure.colorbar(drawn, ax=panel, shrink=0.85, label=measure)
    bar.outline.set_visible(False)


def _label(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float | np.number) else str(value)


def _check(scores: pd.DataFrame, sd: pd.DataFrame | None, kind: str) -> None:
    if kind not in ("lines", "heatmap"):
        raise ValueError(f"kind should be 'lines' or 'heatmap', but is {kind!r}.")
    if not scores.notna().to_numpy().any():
        raise ValueError(f"scores should hold at least one score, but has shape {scores.shape} and none.")
    if sd is not None and not (sd.index.equals(scores.index) and sd.columns.equals(scores.columns)):
        raise ValueError("sd should have the rows and columns of scores, but has others.")
    strange = [value for value in scores.columns if not isinstance(value, int | float | np.number)]
    if kind == "lines" and strange:
        raise ValueError(f"columns of scores should be numbers for lines, but {strange[:5]} are not; take 'heatmap'.")
