"""A picture of a table of runs: a panel for each data set and measure, a bar a row, a dot a run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd


def draw_bars(runs: pd.DataFrame, measures: Sequence[str], path: Path, *, by: str = "dataset") -> None:
    """Data sets (or another column, ``by``) below each other, measures beside each other."""
    from matplotlib.figure import Figure

    groups, rows = list(runs[by].unique()), list(runs["method"].unique())[::-1]
    size = (2.2 + 2.4 * len(measures), (0.26 * len(rows) + 0.9) * len(groups))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(groups), len(measures), sharey=True, squeeze=False)
    for axes_row, group in zip(grid, groups, strict=True):
        of_group = runs[runs[by] == group]
        for axes, measure in zip(axes_row, measures, strict=True):
            for position, row in enumerate(rows):
                values = of_group.loc[of_group["method"] == row, measure].dropna()
                axes.barh(position, values.mean() if len(values) else np.nan, color="C0", alpha=0.5)
                axes.plot(values, [position] * len(values), ".", color="C0", markersize=4)
            axes.set(xlabel=measure.replace("_", " "), yticks=range(len(rows)), yticklabels=rows)
            axes.spines[["top", "right"]].set_visible(False)
        axes_row[0].set_title(str(group), loc="left", fontsize="medium")
    figure.savefig(path, dpi=120)
