"""The genes of NMF's programmes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sc_ssl._checks import check_count
from sc_ssl.data import check_anndata
from sc_ssl.pl._bars import bars
from sc_ssl.pl._figure import finish, panels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def programs(
    adata: AnnData,
    key: str = "nmf",
    *,
    names: Sequence[str] | None = None,
    n_genes: int = 10,
    n_cols: int = 5,
    show: bool | None = None,
    return_fig: bool = False,
) -> Axes | list[Axes] | Figure | None:
    """Plot the genes of the largest weight in each programme that NMF found.

    Parameters
    ----------
    adata
        Cells that :func:`sc_ssl.tl.nmf_transfer` has embedded.
    key
        Name of the embedding in ``uns``.
    names
        Which programmes, ``"nmf_0"`` for example; by default all.
    n_genes
        Genes of each, at least 1.
    n_cols
        Panels per row.
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
        No such programmes.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> sc_ssl.tl.nmf_transfer(adata, n_components=4)
    >>> axes = sc_ssl.pl.programs(adata, show=False)
    """
    check_anndata(adata)
    check_count("n_genes", n_genes)
    varm_key = f"{key}_programs"
    if varm_key not in adata.varm:
        raise KeyError(
            f"varm has no {varm_key!r}, it has {', '.join(adata.varm) or 'none'}; call sc_ssl.tl.nmf_transfer."
        )
    weights = adata.varm[varm_key]
    chosen = list(weights.columns if names is None else names)
    for name in chosen:
        if name not in weights:
            raise KeyError(f"varm[{varm_key!r}] has no programme {name!r}, it has {', '.join(weights)}.")
    axes = panels(len(chosen), n_cols=n_cols, size=(1.9, 0.5 + 0.19 * n_genes))
    for ax, name in zip(axes, chosen, strict=True):
        top = weights[name].nlargest(n_genes)
        bars(ax, list(top.index), np.asarray(top), title=str(name), xlabel="weight")
    return finish(axes, show=show, return_fig=return_fig)
