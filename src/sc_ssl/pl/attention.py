"""Where a model attends in each cell."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import ListedColormap

from sc_ssl.pl._figure import finish, panels

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

OPACITY = 0.7  # of the most attended patch: the genes below stay visible
N_NAMED = 3  # genes of the most attended patch that are written below


def attention(
    attention: ArrayLike,
    expression: ArrayLike,
    *,
    labels: Sequence[Any] | None = None,
    genes: pd.DataFrame | None = None,
    n_cols: int = 6,
    patch_shape: tuple[int, int] | None = None,
    cmap: str = "YlOrRd",
    show: bool | None = None,
    return_fig: bool = False,
) -> Axes | list[Axes] | Figure | None:
    """Plot where a model attends in each cell: its genes as an image, attention laid over (figure 6 of mask-sc).

    One panel per cell. The image is the cell's expression, from white (average or below) to black (three standard
    deviations above); each patch is tinted by its attention, scaled from 0 (the cell's least attended patch, clear)
    to 1 (its most attended). Colours do not compare between cells.

    Parameters
    ----------
    attention
        (n_cells, n_patches) weights, array or DataFrame; patches in row-major order over the image, whose last row
        of patches need not be full.
    expression
        (n_cells, n_rows, n_cols) z-scored expression, laid out as the model sees it.
    labels
        (n_cells,) titles, e.g. the cells' types. Default: the DataFrame's row names, else none.
    genes
        The genes of each patch, as ``model.get_patch_genes()`` gives them: of the most attended patch, those that the cell
        expresses most are written below its panel. Patches can be read where they hold co-expressed genes, in a model with
        ``gene_order="coexpression"``.
    n_cols
        Panels per row.
    patch_shape
        Rows and columns of a patch. Default: square patches.
    cmap
        Colour map of attention; it is faded towards 0.
    show
        Show the figure. Default: ``scanpy.settings.autoshow``.
    return_fig
        Return the figure.

    Returns
    -------
    The figure if ``return_fig``, None if shown, else the Axes (a list if there are several cells).

    Raises
    ------
    ValueError
        If the numbers of cells differ, or the patches do not tile the image.

    Examples
    --------
    >>> import numpy as np
    >>> import sc_ssl
    >>> attention = np.random.default_rng(0).random((2, 16))  # of a model: model.get_attention(indices=[0, 1])
    >>> expression = np.random.default_rng(1).normal(size=(2, 8, 8))
    >>> axes = sc_ssl.pl.attention(attention, expression, labels=["B", "NK"], show=False)
    """
    attention_nt, expression_nrc = np.asarray(attention, dtype=float), np.asarray(expression, dtype=float)
    if labels is None:
        labels = getattr(attention, "index", [""] * len(attention_nt))
    _check_cells(attention_nt, expression_nrc, list(labels))
    patch_shape = _patch_shape(attention_nt.shape[1], expression_nrc.shape[1:], patch_shape)
    overlay_nrc = _upsample(_scale(attention_nt), expression_nrc.shape[1:], patch_shape)
    names = iter(() if genes is None else _top_genes(attention_nt, expression_nrc, genes, patch_shape))
    height = 1.75 if genes is None else 2.2
    axes = panels(len(attention_nt), n_cols=n_cols, size=(1.6, height), margin=0.8)
    fading = _fade(cmap)
    for panel, expression_rc, overlay_rc, label in zip(axes, expression_nrc, overlay_nrc, labels, strict=True):
        panel.imshow(expression_rc, cmap="gray_r", vmin=0, vmax=3, interpolation="nearest")
        drawn = panel.imshow(overlay_rc, cmap=fading, vmin=0, vmax=1, interpolation="nearest")
        panel.set_title(textwrap.fill(str(label), 18), fontsize="small")
        panel.set(xticks=[], yticks=[])
        if genes is not None:
            panel.set_xlabel(next(names), fontsize="x-small")
        panel.spines[:].set_color("lightgray")
    bar = axes[0].figure.colorbar(drawn, ax=axes, shrink=0.6, aspect=25, ticks=[0, 1])
    bar.set_label("attention, scaled per cell")
    bar.outline.set_color("lightgray")
    return finish(axes, show=show, return_fig=return_fig)


def _scale(attention_nt: NDArray[np.floating]) -> NDArray[np.floating]:
    """Scale each cell to [0, 1]; a cell that attends evenly has no patch to point at and stays clear."""
    low_n1 = attention_nt.min(axis=1, keepdims=True)
    range_n1 = attention_nt.max(axis=1, keepdims=True) - low_n1
    scaled_nt: NDArray[np.floating] = (attention_nt - low_n1) / np.where(range_n1 > 0, range_n1, 1)
    return scaled_nt


def _top_genes(
    attention_nt: NDArray[np.floating],
    expression_nrc: NDArray[np.floating],
    genes: pd.DataFrame,
    patch_shape: tuple[int, int],
) -> list[str]:
    """Of each cell's most attended patch the genes that it expresses most, a line each."""
    height, width = patch_shape
    if genes.shape != (attention_nt.shape[1], height * width):
        raise ValueError(
            f"genes should be a table of {attention_nt.shape[1]} patches x {height * width} genes, as model.get_patch_genes() "
            f"gives it, but is {genes.shape[0]} x {genes.shape[1]}."
        )
    n_across, found = expression_nrc.shape[2] // width, []
    for attention_t, expression_rc in zip(attention_nt, expression_nrc, strict=True):
        patch = int(attention_t.argmax())
        row, column = patch // n_across * height, patch % n_across * width
        # the slots of a patch stand row by row in its tile of the image
        value_p = expression_rc[row : row + height, column : column + width].ravel()
        names_p = genes.iloc[patch].to_numpy()
        named = [names_p[p] for p in value_p.argsort(kind="stable")[::-1] if names_p[p]]
        found.append("\n".join(named[:N_NAMED]))
    return found


def _fade(cmap: str) -> ListedColormap:
    """Let a colour map grow from clear to opaque, in the overlay and in the colour bar alike."""
    rgba = colormaps[cmap](np.linspace(0, 1, 256))
    rgba[:, 3] = np.linspace(0, OPACITY, 256)
    return ListedColormap(rgba)


def _upsample(
    attention_nt: NDArray[np.floating], image_shape: tuple[int, int], patch_shape: tuple[int, int]
) -> NDArray[np.floating]:
    n_down, n_across = image_shape[0] // patch_shape[0], image_shape[1] // patch_shape[1]
    n, n_patches = attention_nt.shape
    padded_nt = np.pad(attention_nt, [(0, 0), (0, n_down * n_across - n_patches)])
    grid_nrc = padded_nt.reshape(n, n_down, n_across)
    return grid_nrc.repeat(patch_shape[0], axis=1).repeat(patch_shape[1], axis=2)


def _patch_shape(n_patches: int, image_shape: tuple[int, int], patch_shape: tuple[int, int] | None) -> tuple[int, int]:
    rows, cols = image_shape
    if patch_shape is None:
        side = math.isqrt(rows * cols // n_patches)
        patch_shape = (side, side)
    height, width = patch_shape
    fits = height > 0 and width > 0 and rows % height == 0 and cols % width == 0
    n_missing = (rows // height) * (cols // width) - n_patches if fits else -1
    if not 0 <= n_missing < cols // max(width, 1):
        raise ValueError(
            f"{n_patches} patches of {height} x {width} genes should tile an image of {rows} x {cols} genes, but do "
            "not. Give patch_shape=(rows, columns) of a patch, and expression as the model lays it out."
        )
    return height, width


def _check_cells(
    attention_nt: NDArray[np.floating], expression_nrc: NDArray[np.floating], labels: Sequence[Any]
) -> None:
    if attention_nt.ndim != 2 or expression_nrc.ndim != 3:
        raise ValueError(
            "attention should have shape (n_cells, n_patches) and expression (n_cells, n_rows, n_cols), "
            f"but they have {attention_nt.shape} and {expression_nrc.shape}."
        )
    found = len(attention_nt), len(expression_nrc), len(labels)
    if not len(attention_nt) or len(set(found)) > 1:
        raise ValueError(
            "attention, expression and labels should be of the same cells, at least one, "
            f"but have {found[0]}, {found[1]} and {found[2]}."
        )
    bad = np.flatnonzero(~np.isfinite(attention_nt).all(axis=1))
    if len(bad):
        raise ValueError(f"attention should be finite, but has NaN or infinite values in cells {list(bad[:5])}.")
