"""The same cells in several embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from sklearn.manifold import TSNE

from sc_ssl.pl._figure import finish, given_axes, panels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

MISSING = "lightgray"
NAMES = {"tsne": "t-SNE", "umap": "UMAP"}


def embedding_compare(
    adata: AnnData,
    keys: str | Sequence[str],
    *,
    color: str,
    layout: Literal["tsne", "umap"] = "tsne",
    perplexity: float = 30,
    random_state: int = 0,
    titles: Sequence[str] | None = None,
    n_cols: int = 4,
    size: float | None = None,
    ax: Axes | Sequence[Axes] | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Axes | list[Axes] | Figure | None:
    """Plot the same cells in several embeddings, one panel each, with the same colours (figure 4 of mask-sc).

    The two-dimensional layout of each embedding is computed here and not stored: ``adata`` is not changed. An
    embedding that has two columns already is drawn as it is.

    Parameters
    ----------
    adata
        Annotated data with the embeddings in ``obsm``.
    keys
        Keys of ``obsm``, one panel each, e.g. ``["X_pca", "X_masksc"]``.
    color
        Column of ``obs``: categories, drawn in the colours of ``uns[f"{color}_colors"]`` if there, or numbers.
    layout
        ``"tsne"`` (started from the principal components) or ``"umap"`` (15 nearest neighbours).
    perplexity
        Perplexity of t-SNE; smaller than the number of cells.
    random_state
        Seed of the layout.
    titles
        One title per panel. Default: the key.
    n_cols
        Panels per row.
    size
        Area of a point in points². Default: 40,000 / number of cells, between 1 and 30.
    ax
        Axes to draw into, one per key. Default: a new figure.
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
        If a key is not in ``obsm`` or ``color`` is not in ``obs``.
    ValueError
        If an embedding has missing values, ``layout`` is unknown, or titles or axes do not fit the keys.
    """
    keys = [keys] if isinstance(keys, str) else list(keys)
    titles = keys if titles is None else list(titles)
    _check(adata, keys, color, layout, titles)
    layouts = [_layout(adata, key, layout, perplexity=perplexity, random_state=random_state) for key in keys]
    color_n, legend = _colors(adata, color)
    shuffled = np.random.default_rng(random_state).permutation(adata.n_obs)  # else the last type covers the others
    points: dict[str, Any] = {
        "s": _point_size(adata.n_obs, size),
        "linewidths": 0,
        "rasterized": True,
        "plotnonfinite": True,
    }
    if ax is None:
        axes = panels(len(keys), n_cols=n_cols, size=(3.0, 3.25), margin=_legend_width(legend))
    else:
        axes = given_axes(ax, len(keys))
    for panel, layout_n2, key, title in zip(axes, layouts, keys, titles, strict=True):
        drawn = panel.scatter(layout_n2[shuffled, 0], layout_n2[shuffled, 1], c=color_n[shuffled], **points)
        _decorate(panel, title, NAMES[layout] if adata.obsm[key].shape[1] > 2 else "column")
    if legend is None:
        axes[0].figure.colorbar(drawn, ax=axes, label=color, shrink=0.8)
    else:
        _add_legend(axes, legend, title=color, beside=ax is not None)
    return finish(axes, show=show, return_fig=return_fig)


def _layout(
    adata: AnnData, key: str, layout: Literal["tsne", "umap"], *, perplexity: float, random_state: int
) -> NDArray[np.floating]:
    """Return two columns for the embedding, computed on a private copy."""
    embedding_nd = np.asarray(adata.obsm[key])
    if embedding_nd.shape[1] == 2:
        return embedding_nd
    if layout == "tsne":
        return np.asarray(
            TSNE(perplexity=perplexity, init="pca", random_state=random_state).fit_transform(embedding_nd)
        )
    private = AnnData(obsm={"X": embedding_nd})
    sc.pp.neighbors(private, n_neighbors=min(15, adata.n_obs - 1), use_rep="X", random_state=random_state)
    sc.tl.umap(private, random_state=random_state)
    return np.asarray(private.obsm["X_umap"])


def _colors(adata: AnnData, color: str) -> tuple[NDArray[Any], dict[str, str] | None]:
    """Return a colour (or number) per cell, and category → colour for the legend (None for numbers)."""
    values = adata.obs[color]
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return values.to_numpy(dtype=float, na_value=np.nan), None
    values = values.astype("category")
    categories = values.cat.categories
    stored = adata.uns.get(f"{color}_colors", ())
    palette = stored if len(stored) >= len(categories) else _palette(len(categories))
    legend = dict(zip(categories.astype(str), map(to_hex, palette), strict=False))
    color_n = np.array([*legend.values(), MISSING])[values.cat.codes]  # code -1, a missing value, takes the last
    return color_n, legend | ({"missing": MISSING} if values.isna().any() else {})


def _palette(n_colors: int) -> list[str]:
    """Return scanpy's default colours for that many categories."""
    for palette in (sc.pl.palettes.default_20, sc.pl.palettes.default_28, sc.pl.palettes.default_102):
        if n_colors <= len(palette):
            return list(palette)
    return [to_hex(rgb) for rgb in colormaps["turbo"](np.linspace(0, 1, n_colors))]


def _point_size(n_cells: int, size: float | None) -> float:
    return float(np.clip(40_000 / n_cells, 1, 30)) if size is None else size


def _decorate(panel: Axes, title: str, layout: str) -> None:
    panel.set_title(title)
    panel.set(xticks=[], yticks=[], box_aspect=1)
    panel.set_xlabel(f"{layout} 1", fontsize="small", color="dimgray")
    panel.set_ylabel(f"{layout} 2", fontsize="small", color="dimgray")
    panel.spines[:].set_color("lightgray")


def _legend_width(legend: Mapping[str, str] | None) -> float:
    """Room for the legend (or colour bar) in inches, so that it does not squeeze the panels."""
    if legend is None:
        return 1.0
    return _legend_columns(legend) * (0.6 + 0.075 * max(map(len, legend)))


def _legend_columns(legend: Mapping[str, str]) -> int:
    return -(-len(legend) // 16)


def _add_legend(axes: list[Axes], legend: Mapping[str, str], *, title: str, beside: bool) -> None:
    """Add the one legend: right of the figure, or beside the last panel where the user laid out the figure."""
    handles = [Line2D([], [], marker="o", linestyle="", color=value, label=name) for name, value in legend.items()]
    style: dict[str, Any] = {"title": title, "frameon": False, "fontsize": "small", "ncols": _legend_columns(legend)}
    if beside:
        axes[-1].legend(handles=handles, loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0, **style)
    else:
        axes[0].figure.legend(handles=handles, loc="outside right center", **style)


def _check(adata: AnnData, keys: Sequence[str], color: str, layout: str, titles: Sequence[str]) -> None:
    if layout not in NAMES:
        raise ValueError(f"layout should be one of {', '.join(map(repr, NAMES))}, but is {layout!r}.")
    if not keys or len(titles) != len(keys):
        raise ValueError(f"There should be at least one key, and one title per key: {len(keys)} and {len(titles)}.")
    if color not in adata.obs:
        raise KeyError(f"color={color!r} is not a column of adata.obs, which has {', '.join(adata.obs)}.")
    for key in keys:
        if key not in adata.obsm:
            raise KeyError(f"{key!r} is not in adata.obsm, which has {', '.join(adata.obsm)}.")
        embedding_nd = np.asarray(adata.obsm[key])
        if embedding_nd.ndim != 2 or embedding_nd.shape[1] < 2:
            raise ValueError(f"obsm[{key!r}] should have at least two columns, but has shape {embedding_nd.shape}.")
        bad = np.flatnonzero(~np.isfinite(embedding_nd).all(axis=1))
        if len(bad):
            names = ", ".join(adata.obs_names[bad[:5]])
            raise ValueError(f"obsm[{key!r}] has NaN or infinite values in {len(bad)} cells: {names}. Leave them out.")
