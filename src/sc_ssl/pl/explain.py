"""Which genes make the clusters, dimensions and batches of an embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd

from sc_ssl._checks import check_choice, check_count
from sc_ssl._keys import explain_keys
from sc_ssl.data import check_anndata
from sc_ssl.pl._bars import bars
from sc_ssl.pl._figure import finish, in_order, panels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kind = Literal["bar", "dot", "heatmap"]
#: area in points² of a dot for all cells
DOT = 90


def explain(
    adata: AnnData,
    key: str = "masksc",
    *,
    kind: Kind = "bar",
    groups: Sequence[str] | None = None,
    n_genes: int = 10,
    n_cols: int = 4,
    show: bool | None = None,
    return_fig: bool = False,
) -> Axes | list[Axes] | Figure | None:
    """Plot the genes that add most to each cluster, dimension or batch effect, of those that it expresses more.

    Parameters
    ----------
    adata
        Cells that :func:`sc_ssl.tl.explain` has explained.
    key
        The method, or the ``key_added`` of the explanation.
    kind
        ``"bar"``: a panel a group, the length is the contribution; ``"dot"``: groups × genes, colour for the contribution as a
        share of the group's largest, size for the share of the group's cells that express the gene; ``"heatmap"``: colour
        alone.
    groups
        Which, in this order; by default all.
    n_genes
        Genes of each group, at least 1.
    n_cols
        Panels per row, of bars.
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
        No such explanation, or no such group in it.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> sc_ssl.tl.embed(adata, "pca_cosine")
    >>> sc_ssl.tl.explain(adata, "pca_cosine", groupby="cell_type")
    >>> axes = sc_ssl.pl.explain(adata, "pca_cosine", kind="dot", n_genes=3, show=False)
    """
    check_choice("kind", kind, get_args(Kind))
    check_count("n_genes", n_genes)
    table = _table(adata, key)
    groups = _groups(table, groups)
    top = {group: _top(table, group, n_genes) for group in groups}
    if kind == "bar":
        axes = panels(len(groups), n_cols=n_cols, size=(2.2, 0.5 + 0.19 * n_genes))
        for ax, group in zip(axes, groups, strict=True):
            bars(ax, list(top[group]["names"]), top[group]["scores"].to_numpy(), title=group, xlabel="contribution")
        return finish(axes, show=show, return_fig=return_fig)
    return finish([_matrix(table, groups, top, dots=kind == "dot")], show=show, return_fig=return_fig)


def _table(adata: AnnData, key: str) -> pd.DataFrame:
    check_anndata(adata)
    found = next((k for k in (explain_keys(str(key))[1], key) if "summary" in _entry(adata, k)), None)
    if found is None:
        known = [name for name in adata.uns if "summary" in _entry(adata, name)]
        raise KeyError(
            f"uns has no explanation {key!r}, it has {', '.join(map(repr, known)) or 'none'}; call sc_ssl.tl.explain first."
        )
    table: pd.DataFrame = adata.uns[found]["genes"]
    return table


def _entry(adata: AnnData, key: Any) -> Any:
    entry = adata.uns.get(key)
    return entry if isinstance(entry, dict) else {}


def _groups(table: pd.DataFrame, groups: Sequence[str] | None) -> list[str]:
    known = in_order(table["group"].unique())
    if groups is None:
        return known
    for group in groups:
        if str(group) not in known:
            raise KeyError(f"the explanation has no group {group!r}, it has {', '.join(map(repr, known))}.")
    return [str(group) for group in groups]


def _top(table: pd.DataFrame, group: str, n_genes: int) -> pd.DataFrame:
    """The genes that add most to a group, of those that it expresses more; rows are sorted by contribution."""
    rows = table[(table["group"] == group) & (table["logfoldchanges"] > 0)]
    return rows.head(n_genes)


def _matrix(table: pd.DataFrame, groups: list[str], top: dict[str, pd.DataFrame], *, dots: bool) -> Axes:
    """Groups × their top genes."""
    genes = list(dict.fromkeys(name for group in groups for name in top[group]["names"]))
    wide = table[table["names"].isin(genes)]
    score_kg = (
        wide.pivot_table(index="group", columns="names", values="scores", observed=True).loc[groups, genes].to_numpy()
    )
    share_kg = wide.pivot_table(index="group", columns="names", values="pct_nz_group", observed=True)
    scaled_kg = score_kg / np.maximum(np.abs(score_kg).max(axis=1, keepdims=True), 1e-30)
    (ax,) = panels(1, n_cols=1, size=(1.8 + 0.2 * len(genes), 1.3 + 0.24 * len(groups)))
    if dots:
        x, y = np.meshgrid(np.arange(len(genes)), np.arange(len(groups)))
        size = DOT * share_kg.loc[groups, genes].to_numpy().ravel()
        drawn = ax.scatter(
            x, y, s=size, c=scaled_kg.ravel(), cmap="RdBu_r", vmin=-1, vmax=1, edgecolor="gray", linewidth=0.3
        )
        for share in (0.25, 1.0):
            ax.scatter(
                [], [], s=DOT * share, c="lightgray", edgecolor="gray", linewidth=0.3, label=f"{share:.0%} of cells"
            )
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize="small")
        ax.set(xlim=(-0.7, len(genes) - 0.3), ylim=(len(groups) - 0.3, -0.7))
    else:
        drawn = ax.imshow(scaled_kg, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    ax.set_xticks(range(len(genes)), genes, rotation=90, fontsize="small")
    ax.set_yticks(range(len(groups)), groups)
    ax.tick_params(length=0)
    ax.spines[:].set_color("lightgray")
    bar = ax.figure.colorbar(drawn, ax=ax, ticks=[-1, 0, 1], aspect=12, pad=0.01)
    bar.set_label("share of the\nlargest contribution", fontsize="small")
    bar.outline.set_color("lightgray")
    return ax
