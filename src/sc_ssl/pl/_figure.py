"""What all plots share: panels in a grid, and what a plotting function returns."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from scanpy import settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def panels(n_panels: int, *, n_cols: int, size: tuple[float, float], margin: float = 0) -> list[Axes]:
    """Return that many axes of a new figure, row by row.

    ``size`` is one panel's width and height, ``margin`` the room right of all panels, for a legend; in inches.
    """
    n_cols = min(n_cols, n_panels)
    n_rows = -(-n_panels // n_cols)
    figsize = (n_cols * size[0] + margin, n_rows * size[1])
    figure, grid = plt.subplots(n_rows, n_cols, figsize=figsize, squeeze=False, layout="constrained")
    axes = list(grid.flat)
    for spare in axes[n_panels:]:
        figure.delaxes(spare)
    return axes[:n_panels]


def in_order(names: Iterable[object]) -> list[str]:
    """Names as a reader sorts them, numbers by their value: T 2 before T 10."""
    parts = re.compile(r"(\d+)")
    return sorted(map(str, names), key=lambda name: [int(p) if p.isdigit() else p.lower() for p in parts.split(name)])


def given_axes(ax: Axes | Iterable[Axes], n_panels: int) -> list[Axes]:
    """Return the user's axes as a list, and refuse a number that does not fit."""
    axes = list(ax) if hasattr(ax, "__iter__") else [ax]
    if len(axes) != n_panels:
        raise ValueError(f"ax should be {n_panels} Axes, one per panel, but is {len(axes)}.")
    return axes


def finish(axes: list[Axes], *, show: bool | None, return_fig: bool) -> Axes | list[Axes] | Figure | None:
    """Return the figure, or show it, or return its axes: scanpy's convention."""
    if return_fig:
        return axes[0].get_figure(root=True)
    if settings.autoshow if show is None else show:
        plt.show()
        return None
    return axes[0] if len(axes) == 1 else axes
