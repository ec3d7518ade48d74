"""Predicted against annotated cell types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from scipy.optimize import linear_sum_assignment

from sc_ssl._names import as_names
from sc_ssl.data import check_anndata
from sc_ssl.pl._figure import finish, in_order, panels

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: types down to which numbers stand in the cells of the table
MAX_WITH_NUMBERS = 20
#: inches of a cell, for few and for many types, and of a character
CELL, SMALL_CELL, CHARACTER = 0.36, 0.2, 0.075


def confusion(
    adata: AnnData,
    truth: str,
    predicted: str,
    *,
    normalize: Literal["truth", "predicted"] | None = "truth",
    cmap: str = "Blues",
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot how the cells of each annotated type are predicted: annotated types down, predicted ones across.

    Types of the same name stand on the diagonal. Clusters, whose names differ from those of the types, are ordered so that
    the most cells lie on it.

    Parameters
    ----------
    adata
        Cells, for example after :func:`sc_ssl.tl.annotate` or :func:`sc_ssl.tl.cluster`.
    truth
        Column of ``obs`` with the annotated types.
    predicted
        Column of ``obs`` with the predicted types or clusters. Cells without either are left out.
    normalize
        ``"truth"``: share of the cells of each annotated type, rows sum to 1; ``"predicted"``: share of the cells of each
        predicted type, columns sum to 1; ``None``: numbers of cells.
    cmap
        Colour map.
    title
        Default: the share of cells whose predicted type has the name of the annotated one, where names are shared.
    ax
        Axes to draw into. Default: a new figure, as large as the names and types need.
    show
        Show the figure. Default: ``scanpy.settings.autoshow``.
    return_fig
        Return the figure.

    Returns
    -------
    The figure if ``return_fig``, None if shown, else the Axes.

    Raises
    ------
    KeyError
        If a column is not in ``obs``.
    ValueError
        If no cell has both, or ``normalize`` is unknown.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> sc_ssl.tl.pca_cosine(adata)
    >>> sc_ssl.tl.cluster(adata, "X_pca_cosine", n_clusters=8)
    >>> figure = sc_ssl.pl.confusion(adata, "cell_type", "pca_cosine_cluster", return_fig=True)
    """
    check_anndata(adata)
    counts = _counts(adata, truth, predicted)
    if normalize not in ("truth", "predicted", None):
        raise ValueError(f"normalize should be 'truth', 'predicted' or None, but is {normalize!r}.")
    values = counts.astype(float)
    if normalize is not None:
        values = values.div(values.sum(axis=int(normalize == "truth")), axis=int(normalize == "predicted"))
    numbers = max(values.shape) <= MAX_WITH_NUMBERS
    cell = CELL if numbers else SMALL_CELL
    left, below = (CHARACTER * max(map(len, names)) for names in (values.index, values.columns))
    if ax is None:
        size = (max(left + cell * values.shape[1] + 1.4, 3.5), max(below + cell * values.shape[0] + 0.9, 3.0))
        ax = panels(1, n_cols=1, size=size)[0]
    high = 1.0 if normalize else float(values.to_numpy().max())
    drawn = ax.imshow(values, cmap=cmap, vmin=0, vmax=high, aspect="equal")
    if numbers:
        _write_numbers(ax, values, Normalize(0, high), cmap, shares=normalize is not None)
    _decorate(ax, values, truth, predicted, _title(counts) if title is None else title)
    label = {"truth": "share of annotated type", "predicted": "share of predicted type", None: "cells"}[normalize]
    bar = ax.figure.colorbar(drawn, ax=ax, label=label, shrink=min(1, 2.4 / (cell * len(values))), aspect=15)
    bar.outline.set_visible(False)
    return finish([ax], show=show, return_fig=return_fig)


def _counts(adata: AnnData, truth: str, predicted: str) -> pd.DataFrame:
    """Numbers of cells, annotated types × predicted ones, those of one name at one place."""
    for key in (truth, predicted):
        if key not in adata.obs:
            raise KeyError(f"{key!r} is not a column of adata.obs, which has {', '.join(adata.obs)}.")
    known = adata.obs[[truth, predicted]].notna().all(axis=1)
    if not known.any():
        raise ValueError(f"no cell has a value in both obs[{truth!r}] and obs[{predicted!r}].")
    # by position, as the two may be one column
    rows, columns = (as_names(adata.obs.loc[known, key]).to_numpy(str) for key in (truth, predicted))
    counts = pd.crosstab(rows, columns)
    counts = counts.loc[in_order(counts.index), in_order(counts.columns)]
    shared = [name for name in counts.index if name in counts.columns]
    if shared:
        others = [name for name in counts.columns if name not in shared]
        return counts[shared + others].loc[shared + [name for name in counts.index if name not in shared]]
    matched_rows, matched = linear_sum_assignment(counts, maximize=True)
    place = dict(zip(matched, matched_rows, strict=True))
    best = counts.to_numpy().argmax(axis=0)  # a cluster beyond the number of types stands near the type it holds
    order = sorted(range(counts.shape[1]), key=lambda column: place.get(column, best[column] + 0.5))
    return counts.iloc[:, order]


def _title(counts: pd.DataFrame) -> str:
    shared = [name for name in counts.index if name in counts.columns]
    if not shared:
        return ""
    right = sum(counts.loc[name, name] for name in shared)
    return f"{right / counts.to_numpy().sum():.0%} of {counts.to_numpy().sum():,} cells agree"


def _write_numbers(ax: Axes, values: pd.DataFrame, scale: Normalize, cmap: str, *, shares: bool) -> None:
    from matplotlib import colormaps

    for row, col in np.ndindex(*values.shape):
        value = values.iloc[row, col]
        text = (f"{value:.2f}".removeprefix("0") if value < 0.995 else "1") if shares else f"{value:.0f}"
        if value >= (0.005 if shares else 1):
            luma = np.dot(colormaps[cmap](scale(value))[:3], (0.3, 0.59, 0.11))
            ax.text(col, row, text, ha="center", va="center", fontsize=7, color="black" if luma > 0.5 else "white")


def _decorate(ax: Axes, values: pd.DataFrame, truth: str, predicted: str, title: str) -> None:
    size = 9 if max(values.shape) <= MAX_WITH_NUMBERS else 7
    ax.set_xticks(range(values.shape[1]), values.columns, rotation=90, fontsize=size)
    ax.set_yticks(range(values.shape[0]), values.index, fontsize=size)
    ax.set(xlabel=predicted, ylabel=truth)
    ax.set_title(title, fontsize=10)
    ax.tick_params(length=0)
    ax.spines[:].set_color("lightgray")
    for grid, n in ((ax.set_xticks, values.shape[1]), (ax.set_yticks, values.shape[0])):
        grid(np.arange(1, n) - 0.5, minor=True)
    ax.grid(which="minor", color="0.92", linewidth=0.5)
    ax.tick_params(which="minor", length=0)
