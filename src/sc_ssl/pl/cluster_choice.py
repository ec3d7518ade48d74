"""Why a number of clusters was chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from sc_ssl.data import check_anndata
from sc_ssl.pl._figure import finish, in_order, panels

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can distinguish.
CRITERION = {"color": "#0072B2", "marker": "o"}
STABILITY = {"color": "#D55E00", "marker": "s", "linestyle": "--"}


def cluster_choice(
    adata: AnnData,
    key: str = "masksc_cluster",
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot why a number of clusters was chosen: the criterion for each number, and beside it the stability.

    Of one number that was given there is no choice to show: then the sizes of the clusters are drawn, and its criterion and
    stability are written above.

    The chosen number, or the one that was given, is marked by a line. The stability, with its own axis on the right,
    is the mean over resamples of the agreement (ARI) with the clusters of all cells, the band one standard deviation.

    Parameters
    ----------
    adata
        Cells that :func:`sc_ssl.tl.cluster` has clustered.
    key
        Name of the result in ``uns``.
    ax
        Axes to draw into. Default: a new figure.
    show
        Show the figure. Default: ``scanpy.settings.autoshow``.
    return_fig
        Return the figure.

    Returns
    -------
    The figure if ``return_fig``, None if shown, else the Axes of the criterion.

    Raises
    ------
    KeyError
        If ``uns`` has no such result.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> sc_ssl.tl.embed(adata, "pca_cosine")
    >>> sc_ssl.tl.cluster(adata, "X_pca_cosine", k_range=[6, 8, 10])
    >>> ax = sc_ssl.pl.cluster_choice(adata, "pca_cosine_cluster", show=False)
    """
    check_anndata(adata)
    found = _read(adata, key)
    curve, chosen = found["curve"], int(found["n_clusters"])
    one_number = len(curve["n_clusters"]) == 1 and key in adata.obs
    width = 5.2 if not one_number else float(np.clip(1.2 + 0.22 * chosen, 3.6, 12))
    panel = panels(1, n_cols=1, size=(width, 3.4))[0] if ax is None else ax
    if one_number:
        _draw_sizes(panel, adata, key, found)
        return finish([panel], show=show, return_fig=return_fig)
    right = panel.twinx()
    k, stability, sd = curve["n_clusters"], np.asarray(curve["stability"]), np.asarray(curve["stability_sd"])
    panel.plot(k, curve["criterion"], markersize=4, linewidth=1.6, **CRITERION)
    right.plot(k, stability, markersize=3, linewidth=1.2, **STABILITY)
    right.fill_between(k, stability - sd, stability + sd, color=STABILITY["color"], alpha=0.15, linewidth=0)
    panel.axvline(chosen, color="0.4", linewidth=1, zorder=0)
    panel.set_title(f"{chosen} clusters ({'given' if 'n_clusters' in found['params'] else 'chosen'})", fontsize=10)
    _decorate(panel, right, str(found["params"]["criterion"]))
    return finish([panel], show=show, return_fig=return_fig)


def _read(adata: AnnData, key: str) -> dict[str, Any]:
    present = [name for name, entry in adata.uns.items() if isinstance(entry, dict) and "curve" in entry]
    if key not in present:
        raise KeyError(
            f"adata.uns has no result of sc_ssl.tl.cluster named {key!r}; it has "
            f"{', '.join(map(repr, present)) or 'none: run sc_ssl.tl.cluster first'}."
        )
    return adata.uns[key]


def _draw_sizes(panel: Axes, adata: AnnData, key: str, found: dict[str, Any]) -> None:
    """Cells of each cluster, in the colours that scanpy has given them."""
    size = adata.obs[key].value_counts()
    size = size.loc[in_order(size.index)]
    colors = adata.uns.get(f"{key}_colors", ())
    panel.bar(size.index, size, color=list(colors) if len(colors) == len(size) else CRITERION["color"], width=0.8)
    curve, criterion = found["curve"], str(found["params"]["criterion"])
    measures = [f"{criterion} {curve['criterion'][0]:.2f}"] if np.isfinite(curve["criterion"][0]) else []
    if np.isfinite(curve["stability"][0]):
        measures.append(f"stability {curve['stability'][0]:.2f} ± {curve['stability_sd'][0]:.2f}")
    title = "\n".join([f"{int(found['n_clusters'])} clusters (given)", *measures])
    panel.set_title(title, fontsize=9, loc="left")
    panel.set(xlabel="cluster", ylabel="cells")
    panel.tick_params(axis="x", labelsize=9 if len(size) <= 20 else 7, length=0)
    panel.yaxis.set_major_locator(MaxNLocator(integer=True))
    panel.margins(x=0.02)
    panel.grid(axis="y", alpha=0.25, linewidth=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def _decorate(panel: Axes, right: Axes, criterion: str) -> None:
    panel.set_xlabel("number of clusters")
    panel.set_ylabel(criterion, color=CRITERION["color"])
    right.set_ylabel("stability (ARI over resamples)", color=STABILITY["color"])
    right.set_ylim(0, 1.05)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.grid(alpha=0.25, linewidth=0.6)
    for axes in (panel, right):
        axes.spines["top"].set_visible(False)
