"""The genes that vary most."""

from typing import Literal

import pandas as pd
from anndata import AnnData

from sc_ssl.data import read_counts, variable_genes


def select_genes(
    adata: AnnData,
    n_top_genes: int | None = 2000,
    *,
    layer: str | None = None,
    batch_key: str | None = None,
    input: Literal["counts", "log1p"] = "counts",
) -> pd.Index:
    """Names of the most variable genes, the most variable first.

    Library size to the median, log1p, then scanpy's normalised dispersion (``flavor="seurat"``), as mask-sc and
    contrastive-sc select genes. Genes without a count are never selected.

    Parameters
    ----------
    adata
        Cells × genes with raw counts, in memory or backed; not changed. All values are checked; above 100,000 cells,
        the genes are those that vary among evenly spread ones.
    n_top_genes
        How many; all that have counts when there are fewer, or with ``None``.
    layer
        Layer of counts; ``None`` takes ``layers["counts"]`` if there, else ``X``.
    batch_key
        Column of ``obs``: genes that vary within many batches come first; of at most the 100 largest, of ten cells and more.
    input
        ``"log1p"`` when the matrix is log-normalised already; ``None`` then takes ``X``.

    Returns
    -------
    Names of genes, at most ``n_top_genes``.

    Raises
    ------
    KeyError
        A layer or key that is not there.
    ValueError
        Not counts; NaN, infinite or negative values; no gene with a count, or none that varies between cells; a batch of
        one cell; ``n_top_genes`` under 1.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> genes = sc_ssl.pp.select_genes(adata, 200)
    >>> adata[:, genes].shape
    (700, 200)
    """
    return variable_genes(read_counts(adata, layer, input, min_cells=2), n_top_genes, batch_key=batch_key)
