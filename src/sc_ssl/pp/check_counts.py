"""What an AnnData's matrix holds."""

from anndata import AnnData

from sc_ssl.data import Found, read_counts


def check_counts(adata: AnnData, *, layer: str | None = None) -> Found:
    """Report whether a matrix holds raw, corrected, normalised, log-normalised or scaled counts.

    Looks at the layer that :func:`sc_ssl.tl.embed` would take: ``layer``, else ``layers["counts"]``, else ``X``. The
    verdict rests on up to 100,000 stored values of evenly spread cells and is always the same for the same data.

    Parameters
    ----------
    adata
        Cells × genes, in memory or backed; not changed.
    layer
        Name of a layer.

    Returns
    -------
    ``"counts"`` (non-negative whole numbers, to 0.001), ``"corrected"`` (fractional counts, as SoupX and CellBender leave),
    ``"normalized"`` (CP10k, CPM, TPM: not logged), ``"log1p"`` (log-normalised) or ``"scaled"`` (some negative values).

    Raises
    ------
    KeyError
        The layer is not there.
    ValueError
        No cells or genes, duplicated gene names; NaN or infinite values, or negative ones among counts.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> sc_ssl.pp.check_counts(adata)
    'counts'
    """
    return read_counts(adata, layer, None).kind
