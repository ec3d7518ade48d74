"""The same cells in several embeddings."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from sklearn.manifold import TSNE

from sc_ssl._threads import threads_kept
from sc_ssl.data import check_anndata, find_layer
from sc_ssl.pl._figure import finish, given_axes, in_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

MISSING = "lightgray"
NAMES = {"tsne": "t-SNE", "umap": "UMAP"}
#: sides of a panel, and what is around it, in inches
PANEL, LEFT, RIGHT, ABOVE, BELOW = 2.7, 0.3, 0.1, 0.45, 0.3
#: width of a colour bar with its numbers, and of the room for a legend at least, in inches
BAR, LEAST = 0.9, 0.3


def embedding_compare(
    adata: AnnData,
    keys: str | Sequence[str],
    *,
    color: str | Sequence[str],
    layout: Literal["umap", "tsne"] = "umap",
    layer: str | None = None,
    groups: str | Sequence[str] | None = None,
    palette: str | Sequence[str] | Mapping[str, str] | None = None,
    cmap: str = "viridis",
    legend_loc: str | None = "right margin",
    title: str | Sequence[str] | None = None,
    perplexity: float = 30,
    random_state: int = 0,
    n_cols: int = 4,
    size: float | None = None,
    ax: Axes | Sequence[Axes] | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Axes | list[Axes] | Figure | None:
    """Plot the same cells in several embeddings, one panel each, in the same colours (figure 4 of mask-sc).

    A layout that scanpy has computed of an embedding is taken: ``obsm["X_umap"]`` for the embedding that
    ``sc.pp.neighbors(use_rep=...)`` was given. Others are computed here and not stored: ``adata`` is not changed. An
    embedding that has two columns already is drawn as it is.

    Parameters
    ----------
    adata
        Annotated data with the embeddings in ``obsm``.
    keys
        Keys of ``obsm``, one panel each, e.g. ``["X_pca", "X_masksc"]``.
    color
        Column of ``obs``, or a gene: categories, drawn in the colours of ``uns[f"{color}_colors"]`` if there, or numbers.
        Of several, each has its own rows of panels and its own legend.
    layout
        ``"umap"`` (15 nearest neighbours) or ``"tsne"`` (started from the principal components).
    layer
        Layer of the expression of genes; by default ``X``.
    groups
        Categories to show in colour; the others are grey and lie below.
    palette
        Of categories: name of a colour map, colours in the order of the categories, or category → colour.
    cmap
        Colour map of numbers.
    legend_loc
        ``"right margin"``, ``"on data"`` (names at the centres of the categories), a place in the last panel as of
        matplotlib's legend, for example ``"lower left"``, or ``None``.
    title
        Titles of the panels, one a key. Default: the keys.
    perplexity
        Perplexity of t-SNE; smaller than the number of cells.
    random_state
        Seed of the layout.
    n_cols
        Panels per row.
    size
        Area of a point in points². Default: 40,000 / number of cells, between 1 and 30.
    ax
        Axes to draw into, one per key and colour. Default: a new figure, as wide as its legends need.
    show
        Show the figure. Default: ``scanpy.settings.autoshow``.
    return_fig
        Return the figure.

    Returns
    -------
    The figure if ``return_fig``, None if shown, else the Axes (a list if there are several), those of the first colour first.

    Raises
    ------
    KeyError
        If a key is not in ``obsm``, or ``color`` neither in ``obs`` nor a gene.
    ValueError
        If an embedding has missing values, ``layout``, ``groups`` or ``palette`` do not fit, or titles or axes do not fit the
        keys.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> for method in ("pca_cosine", "nmf"):
    ...     sc_ssl.tl.embed(adata, method)
    >>> keys = ["X_pca_cosine", "X_nmf"]
    >>> figure = sc_ssl.pl.embedding_compare(adata, keys, color=["cell_type", "CD3D"], return_fig=True)
    """
    check_anndata(adata)
    keys = [keys] if isinstance(keys, str) else list(keys)
    colors = [color] if isinstance(color, str) else list(color)
    titles = keys if title is None else [title] if isinstance(title, str) else list(title)
    find_layer(adata, layer)
    _check(adata, keys, colors, layout, titles)
    options: dict[str, Any] = {"layer": layer, "groups": groups, "palette": palette, "cmap": cmap, "seed": random_state}
    shades = [_shade(adata, name, **options) for name in colors]
    given = None if ax is None else given_axes(ax, len(keys) * len(colors))
    layouts = [_layout(adata, key, layout, perplexity=perplexity, random_state=random_state) for key in keys]
    axes, margins = (given, None) if given is not None else _grid(shades, len(keys), n_cols, legend_loc)
    for i, shade in enumerate(shades):
        of_color = axes[i * len(keys) : (i + 1) * len(keys)]
        for panel, (xy_n2, name), text in zip(of_color, layouts, titles, strict=True):
            drawn = _scatter(panel, xy_n2, shade, _point_size(adata.n_obs, size))
            _decorate(panel, text if len(colors) == 1 or title is not None else f"{text}\n{shade.name}", name)
            if shade.legend and legend_loc == "on data":
                _names_on_data(panel, xy_n2, shade)
        _explain(of_color, shade, drawn, legend_loc, None if margins is None else margins[i])
    return finish(axes, show=show, return_fig=return_fig)


@dataclass(frozen=True)
class _Shade:
    """How cells are coloured: a colour or number each, the order in which they are drawn, and the legend of categories."""

    name: str
    value_n: NDArray[Any]
    order_n: NDArray[np.integer]
    cmap: str
    #: category → colour; ``None`` for numbers
    legend: dict[str, str] | None = None
    #: category of each cell, "" for none
    category_n: NDArray[Any] | None = None


def _shade(
    adata: AnnData,
    name: str,
    *,
    layer: str | None,
    groups: str | Sequence[str] | None,
    palette: str | Sequence[str] | Mapping[str, str] | None,
    cmap: str,
    seed: int,
) -> _Shade:
    values = adata.obs[name] if name in adata.obs else sc.get.obs_df(adata, [name], layer=layer)[name]
    shuffled = np.random.default_rng(seed).permutation(adata.n_obs)  # else the last type covers the others
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        value_n = values.to_numpy(dtype=float, na_value=np.nan)
        # high values above low ones, missing ones below all
        return _Shade(
            name, value_n, shuffled[np.argsort(np.nan_to_num(value_n, nan=-np.inf)[shuffled], kind="stable")], cmap
        )
    values = values.astype("category")
    legend = _category_colors(adata, name, values.cat.categories, palette)
    shown = set(legend) if groups is None else _groups(groups, legend, name)
    legend = {category: legend[category] for category in in_order(legend) if category in shown}
    category_n = np.where(values.isna(), "", values.astype(str))
    value_n = np.array([legend.get(category, MISSING) for category in category_n])
    shuffled = shuffled[np.argsort(value_n[shuffled] != MISSING, kind="stable")]
    if groups is None and values.isna().any():
        legend = legend | {"missing": MISSING}
    elif len(shown) < len(values.cat.categories):
        legend = legend | {"other": MISSING}
    return _Shade(name, value_n, shuffled, cmap, legend, category_n)


def _groups(groups: str | Sequence[str], legend: Mapping[str, str], name: str) -> set[str]:
    wanted = [groups] if isinstance(groups, str) else list(map(str, groups))
    strange = [group for group in wanted if group not in legend]
    if strange:
        raise ValueError(
            f"groups should be among the categories of obs[{name!r}], {', '.join(legend)}; {strange} are not."
        )
    return set(wanted)


def _category_colors(
    adata: AnnData, name: str, categories: pd.Index, palette: str | Sequence[str] | Mapping[str, str] | None
) -> dict[str, str]:
    """Category → colour: as asked for, as stored, or scanpy's default."""
    names = list(map(str, categories))
    if isinstance(palette, Mapping):
        missing = [category for category in names if category not in palette]
        if missing:
            raise ValueError(f"palette has no colour for {missing[0]!r} of obs[{name!r}].")
        return {category: to_hex(palette[category]) for category in names}
    stored = adata.uns.get(f"{name}_colors", ())
    if isinstance(palette, str):
        chosen = colormaps[palette](
            np.linspace(0, 1, len(names)) if colormaps[palette].N > 20 else np.arange(len(names))
        )
    elif palette is not None:
        if len(palette) < len(names):
            raise ValueError(f"palette should have {len(names)} colours for obs[{name!r}], but has {len(palette)}.")
        chosen = palette
    else:
        chosen = stored if len(stored) >= len(names) else _palette(len(names))
    return dict(zip(names, map(to_hex, chosen), strict=False))


def _palette(n_colors: int) -> list[str]:
    """Return scanpy's default colours for that many categories."""
    for palette in (sc.pl.palettes.default_20, sc.pl.palettes.default_28, sc.pl.palettes.default_102):
        if n_colors <= len(palette):
            return list(palette)
    return [to_hex(rgb) for rgb in colormaps["turbo"](np.linspace(0, 1, n_colors))]


def _layout(
    adata: AnnData, key: str, layout: Literal["umap", "tsne"], *, perplexity: float, random_state: int
) -> tuple[NDArray[np.floating], str]:
    """Two columns for the embedding, and what they are called: those there are, or computed on a private copy."""
    embedding_nd = np.asarray(adata.obsm[key])
    if embedding_nd.shape[1] == 2:
        return embedding_nd, NAMES.get(key.removeprefix("X_"), key)
    if _is_of(adata, layout, key):
        return np.asarray(adata.obsm[f"X_{layout}"])[:, :2], NAMES[layout]
    if layout == "tsne":
        tsne = TSNE(perplexity=perplexity, init="pca", random_state=random_state)
        return np.asarray(tsne.fit_transform(embedding_nd)), NAMES[layout]
    private = AnnData(obsm={"X": embedding_nd})
    with threads_kept():
        sc.pp.neighbors(private, n_neighbors=min(15, adata.n_obs - 1), use_rep="X", random_state=random_state)
        sc.tl.umap(private, random_state=random_state)
    return np.asarray(private.obsm["X_umap"]), NAMES[layout]


def _is_of(adata: AnnData, layout: str, key: str) -> bool:
    """Whether scanpy's stored layout was computed of this embedding, by what it keeps of its call."""
    done = adata.uns.get("neighbors" if layout == "umap" else "tsne", {})
    params = done.get("params", {}) if isinstance(done, Mapping) else {}
    # without use_rep scanpy takes the principal components
    return f"X_{layout}" in adata.obsm and bool(params) and params.get("use_rep", "X_pca") == key


def _grid(
    shades: Sequence[_Shade], n_keys: int, n_cols: int, legend_loc: str | None
) -> tuple[list[Axes], list[tuple[float, float, float]]]:
    """Axes of a new figure, row by row, and for each colour the room right of its rows: left, middle, height (inches).

    Sizes are in inches, so that panels are alike and the figure is as wide as the widest legend needs.
    """
    n_cols = min(n_cols, n_keys)
    rows_of_color = -(-n_keys // n_cols)
    n_rows, cell = rows_of_color * len(shades), (LEFT + PANEL + RIGHT, ABOVE + PANEL + BELOW)
    block = rows_of_color * cell[1]
    figure = plt.figure(figsize=(n_cols * cell[0] + LEAST, n_rows * cell[1]))
    room = max(_room(figure, shade, block, legend_loc) for shade in shades)
    width, height = n_cols * cell[0] + room, n_rows * cell[1]
    figure.set_size_inches(width, height)
    axes, margins = [], []
    for i in range(len(shades)):
        for j in range(n_keys):
            row, col = i * rows_of_color + j // n_cols, j % n_cols
            left, bottom = col * cell[0] + LEFT, height - row * cell[1] - ABOVE - PANEL
            axes.append(figure.add_axes((left / width, bottom / height, PANEL / width, PANEL / height)))
        margins.append((n_cols * cell[0], height - (i + 0.5) * block, block))
    return axes, margins


def _room(figure: Figure, shade: _Shade, height: float, legend_loc: str | None) -> float:
    """Inches that the legend or colour bar needs right of the panels, measured."""
    if shade.legend is None:
        return BAR
    if legend_loc != "right margin":
        return LEAST
    legend = figure.legend(**_legend_style(shade, _legend_columns(figure, shade, height)))
    extent = legend.get_window_extent(figure.canvas.get_renderer())
    legend.remove()
    return extent.width / figure.dpi + LEAST


def _legend_columns(figure: Figure, shade: _Shade, height: float) -> int:
    """As few columns as fit into the height, in inches."""
    for n_cols in range(1, len(shade.legend or {}) + 1):
        legend = figure.legend(**_legend_style(shade, n_cols))
        extent = legend.get_window_extent(figure.canvas.get_renderer())
        legend.remove()
        if extent.height / figure.dpi <= height:
            return n_cols
    return 1


def _legend_style(shade: _Shade, n_cols: int) -> dict[str, Any]:
    handles = [
        Line2D([], [], marker="o", linestyle="", color=value, label=textwrap.shorten(name, 60, placeholder=" …") or " ")
        for name, value in (shade.legend or {}).items()
    ]
    spacing = {"handletextpad": 0.2, "columnspacing": 0.8, "labelspacing": 0.35}
    return {"handles": handles, "title": shade.name, "frameon": False, "fontsize": "small", "ncols": n_cols} | spacing


def _scatter(panel: Axes, xy_n2: NDArray[np.floating], shade: _Shade, size: float) -> Any:
    order = shade.order_n
    style: dict[str, Any] = {"s": size, "linewidths": 0, "rasterized": True, "plotnonfinite": True}
    if shade.legend is None:
        style["cmap"] = colormaps[shade.cmap].with_extremes(bad=MISSING)
        return panel.scatter(*xy_n2[order].T, c=np.ma.masked_invalid(shade.value_n[order]), **style)
    return panel.scatter(*xy_n2[order].T, c=shade.value_n[order], **style)


def _explain(
    axes: Sequence[Axes], shade: _Shade, drawn: Any, legend_loc: str | None, margin: tuple[float, float, float] | None
) -> None:
    """Add the one legend or colour bar: right of the rows, or beside the last panel where the user laid out the figure."""
    figure, last = axes[0].get_figure(root=True), axes[-1]
    width, height = figure.get_size_inches()
    if shade.legend is None:
        if margin is None:
            figure.colorbar(drawn, ax=last, label=shade.name, shrink=0.8)
            return
        left, middle, _ = margin
        place = figure.add_axes(
            ((left + 0.08) / width, (middle - 0.4 * PANEL) / height, 0.12 / width, 0.8 * PANEL / height)
        )
        bar = figure.colorbar(drawn, cax=place, label=shade.name)
        bar.outline.set_visible(False)
    elif legend_loc == "right margin" and margin is not None:
        left, middle, block = margin
        style = _legend_style(shade, _legend_columns(figure, shade, block))
        place = (left / width, middle / height)
        figure.legend(loc="center left", bbox_to_anchor=place, borderaxespad=0, **style)
    elif legend_loc == "right margin":
        style = _legend_style(shade, -(-len(shade.legend) // 16))
        last.legend(loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0, **style)
    elif legend_loc not in (None, "on data"):
        # over the cells: small, on a ground that names are read on
        over = {"frameon": True, "framealpha": 0.85, "edgecolor": "none", "fontsize": "x-small", "markerscale": 0.7}
        last.legend(loc=legend_loc, **_legend_style(replace(shade, name=""), 1) | over)


def _names_on_data(panel: Axes, xy_n2: NDArray[np.floating], shade: _Shade) -> None:
    for name in shade.legend or {}:
        of_name = shade.category_n == name
        if of_name.any():
            x, y = np.median(xy_n2[of_name], axis=0)
            text = panel.text(x, y, name, ha="center", va="center", fontsize=7, weight="bold")
            text.set_path_effects([withStroke(linewidth=2, foreground="white")])


def _point_size(n_cells: int, size: float | None) -> float:
    return float(np.clip(40_000 / n_cells, 1, 30)) if size is None else size


def _decorate(panel: Axes, title: str, layout: str) -> None:
    panel.set_title("\n".join(textwrap.fill(line, 34) for line in title.split("\n")), fontsize=10)
    panel.set(xticks=[], yticks=[], box_aspect=1)
    panel.set_xlabel(f"{layout} 1", fontsize="small", color="dimgray")
    panel.set_ylabel(f"{layout} 2", fontsize="small", color="dimgray")
    panel.spines[:].set_color("lightgray")


def _check(adata: AnnData, keys: Sequence[str], colors: Sequence[str], layout: str, titles: Sequence[str]) -> None:
    if layout not in NAMES:
        raise ValueError(f"layout should be one of {', '.join(map(repr, NAMES))}, but is {layout!r}.")
    if not keys or len(titles) != len(keys):
        raise ValueError(f"There should be at least one key, and one title per key: {len(keys)} and {len(titles)}.")
    for color in colors:
        if color not in adata.obs and color not in adata.var_names:
            raise KeyError(
                f"color={color!r} is not a column of adata.obs, which has {', '.join(adata.obs)}, nor a gene of adata."
            )
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
