"""Genes as bars, the first one on top."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from matplotlib.axes import Axes

#: Okabe and Ito's blue
COLOR = "#0072B2"


def bars(ax: Axes, names: Sequence[str], values: np.ndarray, *, title: str, xlabel: str) -> None:
    """One bar a gene."""
    ax.barh(range(len(names)), values, color=COLOR, height=0.7)
    ax.set_yticks(range(len(names)), names, fontsize="small")
    ax.invert_yaxis()
    ax.set_title(title, fontsize="medium")
    ax.set_xlabel(xlabel, fontsize="small")
    ax.tick_params(axis="x", labelsize="small")
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right"]].set_visible(False)
