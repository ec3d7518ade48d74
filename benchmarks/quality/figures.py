"""Bars of a table of runs: a bar a row, a dot a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 120
#: panels beside each other, where each data set has one
N_COLUMNS = 5


def bars_by_measure(
    runs: pd.DataFrame, measures: Sequence[str], path: Path, *, by: str = "dataset", title: str = "{}"
) -> None:
    """Data sets (or values of ``by``) below each other, each with the rows that it has; measures beside each other."""
    from matplotlib.figure import Figure

    groups = dict(iter(runs.groupby(by, sort=False)))
    rows_of = {group: list(of_group["method"].unique())[::-1] for group, of_group in groups.items()}
    heights = [0.26 * len(rows) + 0.9 for rows in rows_of.values()]
    figure = Figure(figsize=(2.2 + 2.4 * len(measures), sum(heights)), layout="constrained")
    grid = figure.subplots(len(groups), len(measures), sharex="col", sharey="row", squeeze=False, height_ratios=heights)
    for axes_row, (group, of_group) in zip(grid, groups.items(), strict=True):
        for axes, measure in zip(axes_row, measures, strict=True):
            _panel(axes, of_group, rows_of[group], measure)
        axes_row[0].set_title(title.format(group), loc="left", fontsize="medium")
    figure.savefig(path, dpi=DPI)


def bars_by_dataset(runs: pd.DataFrame, measure: str, path: Path) -> None:
    """One measure: a panel a data set, the rows that most data sets have."""
    from matplotlib.figure import Figure

    runs = runs.dropna(subset=[measure])
    names, n_with = list(runs["dataset"].unique()), runs.groupby("method")["dataset"].nunique()
    rows = [row for row in runs["method"].unique()[::-1] if n_with[row] > len(names) / 2]
    low = min(0.0, runs.loc[runs["method"].isin(rows), measure].min())
    n_columns = min(len(names), N_COLUMNS)
    n_lines = -(-len(names) // n_columns)
    size = 1.5 + 2.6 * n_columns, n_lines * (0.34 * len(rows) + 1)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(n_lines, n_columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in panels[len(names) :]:
        axes.remove()
    for axes, name in zip(panels, names, strict=False):
        _panel(axes, runs[runs["dataset"] == name], rows, measure)
        axes.set_xlim(low, 1)
        axes.set_title(name, fontsize="medium")
    figure.savefig(path, dpi=DPI)


def _panel(axes: Axes, runs: pd.DataFrame, rows: Sequence[str], measure: str) -> None:
    """Means as bars, runs as dots."""
    for position, row in enumerate(rows):
        values = runs.loc[runs["method"] == row, measure].dropna()
        axes.barh(position, values.mean(), color="C0", alpha=0.5)
        axes.plot(values, [position] * len(values), ".", color="C0", markersize=4)
    axes.tick_params(labelbottom=True)
    axes.set(xlabel=measure.replace("_", " "), yticks=range(len(rows)), yticklabels=rows)
    axes.spines[["top", "right"]].set_visible(False)
