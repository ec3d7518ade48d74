"""Scores of several methods side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.ticker import MaxNLocator, NullFormatter

from sc_ssl._keys import COMPARED
from sc_ssl.pl._figure import finish, panels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ("method", "measure", "score")
NAMES = {
    "ari": "ARI",
    "nmi": "NMI",
    "accuracy": "accuracy",
    "silhouette_labels": "silhouette of types",
    "batch_mixing": "batch mixing",
    "seconds": "seconds",
}
#: times further apart than this need a logarithmic axis
WIDE = 20
# Of Okabe and Ito's palette, which colour-blind readers can distinguish.
BEST, OTHERS = "#0072B2", "#A6C8E0"


def compare(
    table: pd.DataFrame | AnnData,
    *,
    key: str = COMPARED,
    measures: str | Sequence[str] | None = None,
    n_cols: int = 4,
    show: bool | None = None,
    return_fig: bool = False,
) -> Axes | list[Axes] | Figure | None:
    """Plot the scores of several methods, a panel for each measure; the best of a measure is dark.

    Methods stand in the order of their mean score by the first measure. Of several seeds a bar is the mean and each point a
    seed. Of time less is better, and where it differs much its axis is logarithmic.

    Parameters
    ----------
    table
        What :func:`sc_ssl.tl.compare` returns, or the cells that it wrote it into.
    key
        Name of the table in ``uns``.
    measures
        Which to draw, the first orders the methods. Default: all in the table.
    n_cols
        Panels per row.
    show
        Show the figure. Default: ``scanpy.settings.autoshow``.
    return_fig
        Return the figure.

    Returns
    -------
    The figure if ``return_fig``, None if shown, else the Axes (a list if there are several).

    Raises
    ------
    KeyError
        If there is no such table, or a measure or column is not in it.

    Examples
    --------
    >>> import pandas as pd
    >>> import sc_ssl
    >>> scores = {"method": ["masksc", "X_pca"], "measure": ["ari", "ari"], "score": [0.74, 0.68]}
    >>> figure = sc_ssl.pl.compare(pd.DataFrame(scores), return_fig=True)
    """
    table = _read(table, key)
    measures = [measures] if isinstance(measures, str) else list(measures or table["measure"].unique())
    strange = [measure for measure in measures if measure not in set(table["measure"])]
    if strange:
        raise KeyError(f"{strange[0]!r} is not in the table, which has {', '.join(table['measure'].unique())}.")
    first = table[table["measure"] == measures[0]]
    order = first.groupby("method", sort=False)["score"].mean().sort_values(ascending=measures[0] == "seconds").index
    methods = [*order, *(name for name in table["method"].unique() if name not in order)]
    width = min(0.085 * max(len(str(name)) for name in methods), 3.5)
    n_cols = min(n_cols, len(measures))
    n_rows = -(-len(measures) // n_cols)
    size = (2.4 + width / n_cols, 0.75 + 0.26 * len(methods))
    axes = panels(len(measures), n_cols=n_cols, size=size)
    for i, (panel, measure) in enumerate(zip(axes, measures, strict=True)):
        _draw(panel, table[table["measure"] == measure], methods, measure)
        if i % n_cols:
            panel.tick_params(labelleft=False)
    axes[0].get_figure(root=True).set_size_inches(n_cols * 2.4 + width, n_rows * size[1])
    return finish(axes, show=show, return_fig=return_fig)


def _draw(panel: Axes, scores: pd.DataFrame, methods: Sequence[str], measure: str) -> None:
    by_method = scores.groupby("method", sort=False)["score"]
    mean = by_method.mean().reindex(methods)
    lower_is_better = measure == "seconds"
    best = mean.min() if lower_is_better else mean.max()
    place = np.arange(len(methods))
    panel.barh(place, mean, color=[BEST if value == best else OTHERS for value in mean], height=0.72)
    for y, method in zip(place, methods, strict=True):
        runs = scores.loc[scores["method"] == method, "score"]
        if len(runs) > 1:
            panel.scatter(runs, np.full(len(runs), y), s=8, color="black", alpha=0.6, linewidths=0, zorder=3)
        value = mean[method]
        if np.isfinite(value):
            style: dict[str, Any] = {"weight": "bold" if value == best else "normal", "fontsize": 8}
            at = max(value, runs.max(), 0)
            panel.annotate(_text(value, measure), (at, y), (3, 0), textcoords="offset points", va="center", **style)
    panel.set_yticks(place, [str(name) for name in methods], fontsize=9)
    panel.set_ylim(len(methods) - 0.5, -0.5)
    panel.set_title(NAMES.get(measure, measure), fontsize=10, loc="left")
    low, high = scores["score"].min(), scores["score"].max()
    _decorate(panel, scores["score"], logarithmic=lower_is_better and high > WIDE * low)


def _decorate(panel: Axes, values: pd.Series, *, logarithmic: bool) -> None:
    """Room for the numbers right of the bars; no frame."""
    if logarithmic:
        panel.set_xscale("log")
        panel.xaxis.set_minor_formatter(NullFormatter())
        low, high = np.log10(values.min()), np.log10(values.max())
        panel.set_xlim(10 ** (low - 0.15 * max(high - low, 1)), 10 ** (high + 0.5 * max(high - low, 1)))
    else:
        panel.set_xlim(min(values.min(), 0) * 1.1, max(values.max(), 0) * 1.32 or 1)
        panel.axvline(0, color="0.4", linewidth=0.8)
        panel.xaxis.set_major_locator(MaxNLocator(3))
    panel.tick_params(left=False, labelsize=8)
    panel.tick_params(axis="y", labelsize=9)
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.grid(axis="x", alpha=0.25, linewidth=0.6)
    panel.set_axisbelow(True)


def _text(value: float, measure: str) -> str:
    if measure == "seconds":
        return f"{value:.2g}" if value < 10 else f"{value:,.0f}"
    return f"{value:.2f}"


def _read(table: pd.DataFrame | AnnData, key: str) -> pd.DataFrame:
    if isinstance(table, AnnData):
        if key not in table.uns or "table" not in table.uns[key]:
            raise KeyError(f"adata.uns has no comparison named {key!r}; run sc_ssl.tl.compare first.")
        table = table.uns[key]["table"]
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise KeyError(f"the table has no column {missing[0]!r}; it should have {', '.join(COLUMNS)}.")
    return table.astype({"method": str, "measure": str, "score": float})
