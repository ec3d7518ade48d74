"""A picture of a table of runs: a panel for each data set and measure, a bar a row, a dot a run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd


def draw_bars(
    runs: pd.DataFrame, measures: Sequence[str], path: Path, *, by: str = "dataset", title: str = "{}"
) -> None:
    """Data sets (or another column, ``by``) below each other, each with the rows that it has; measures beside each other."""
    from matplotlib.figure import Figure

    groups = dict(iter(runs.groupby(by, sort=False)))
    rows_of = {group: list(of_group["method"].unique())[::-1] for group, of_group in groups.items()}
    heights = [0.26 * len(rows) + 0.9 for rows in rows_of.values()]
    figure = Figure(figsize=(2.2 + 2.4 * len(measures), sum(heights)), layout="constrained")
    grid = figure.subplots(len(groups), len(measures), sharex="col", sharey="row", squeeze=False, height_ratios=heights)
    for axes_row, (group, of_group) in zip(grid, groups.items(), strict=True):
        rows = rows_of[group]
        for axes, measure in zip(axes_row, measures, strict=True):
            for position, row in enumerate(rows):
                values = of_group.loc[of_group["method"] == row, measure].dropna()
                axes.barh(position, values.mean() if len(values) else np.nan, color="C0", alpha=0.5)
                axes.plot(values, [position] * len(values), ".", color="C0", markersize=4)
            axes.tick_params(labelbottom=True)
            axes.set(xlabel=measure.replace("_", " "), yticks=range(len(rows)), yticklabels=rows)
            axes.spines[["top", "right"]].set_visible(False)
        axes_row[0].set_title(title.format(group), loc="left", fontsize="medium")
    figure.savefig(path, dpi=120)
