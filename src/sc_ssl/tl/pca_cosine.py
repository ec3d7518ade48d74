"""PCA done well."""

import time
from typing import Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from sc_ssl._keys import embedding_keys
from sc_ssl._logging import logged_once
from sc_ssl.data import Cells, batch_statistics, obs_categories, principal_components, variable_genes
from sc_ssl.train import seeded

from ._cells import INPUTS, find
from ._record import check_free, record, write


@logged_once()
def pca_cosine(
    adata: AnnData,
    *,
    layer: str | None = None,
    batch_key: str | None = None,
    n_top_genes: int | None = 4096,
    n_comps: int = 20,
    input: Literal["counts", "log1p"] = "counts",
    key_added: str | None = None,
    random_state: int | np.random.Generator | None = 0,
    copy: bool = False,
) -> AnnData | None:
    """Principal components of z-scored log-expression, each cell at length 1: the baseline that a method should beat.

    Library size to the median, log1p, the most variable genes, z-scores clipped at 10, PCA; then each cell is divided
    by its length, so that Euclidean distances, as K-means and nearest neighbours use them, order cells as cosines do.
    Counts stay sparse: the z-scores are never written out (see Notes).

    Parameters
    ----------
    adata
        Cells × genes with raw counts, in memory or backed. Only ``obsm`` and ``uns`` are written.
    layer
        Layer of raw counts; ``None`` takes ``layers["counts"]`` if there, else ``X``, never ``raw``.
    batch_key
        Column of ``obs`` with the batch: genes that vary within batches are picked, and what sets like cells of
        different batches apart is taken off each (:func:`~sc_ssl.data.batch_statistics`).
    n_top_genes
        Most variable genes; ``None`` takes all.
    n_comps
        Number of components, at least 1; one less than the number of cells or genes where more are asked for.
    input
        ``"log1p"`` when log-normalised values are all there is.
    key_added
        Name of the result in both ``obsm`` and ``uns``.
    random_state
        Accepted by every method; nothing here is random.
    copy
        Write to a copy and return it; of backed cells, a copy in memory.

    Returns
    -------
    ``None``, or the copy. Sets the following fields:

    ``adata.obsm['X_pca_cosine' | key_added]`` : (n_obs, n_comps) float32
        Rows of length 1, in the order of the cells.
    ``adata.uns['pca_cosine' | key_added]`` : dict
        ``params``, ``versions``, ``genes`` (names, hash), ``seconds``.

    Raises
    ------
    ValueError
        Not raw counts; NaN, infinite or negative values; duplicated gene names; fewer than 10 cells; cells that are
        all alike; ``n_comps`` under 1.
    KeyError
        A layer or key that is not there.

    Notes
    -----
    A gene's zeros share one z-score (per batch), so the clipped z-scores are a matrix as sparse as the counts plus that
    of the zeros, exactly; its singular vectors come from products with the two.

    The number of components, 20, has the best mean ARI of K-means over 18 data sets for development, real and thinned,
    among 10, 15, 20, 30 and 50; 10 to 20 hardly differ.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> sc_ssl.tl.pca_cosine(adata)
    >>> adata.obsm["X_pca_cosine"].shape
    (700, 20)
    """
    start = time.perf_counter()
    params = {"layer": layer, "batch_key": batch_key, "n_top_genes": n_top_genes, "n_comps": n_comps}
    params |= {"input": input, "key_added": key_added}
    if n_comps < 1:
        raise ValueError(f"n_comps is at least 1, found {n_comps}.")
    obsm_key, uns_key = embedding_keys("pca_cosine", key_added)
    with seeded(random_state) as seed:
        counts = find(adata, layer, input, takes=INPUTS)
        check_free(adata, [("obsm", obsm_key)], uns_key)
        genes = variable_genes(counts, n_top_genes, batch_key=batch_key)
        batch = None if batch_key is None else pd.Categorical(obs_categories(counts, batch_key))
        cells = Cells.from_counts(
            counts.take_genes(genes),
            genes,
            library_size=counts.library_size,
            batch=None if batch is None else batch.codes.astype(np.int64),
        )
        n_batch = 1 if batch is None else len(batch.categories)
        log_input = input == "log1p"
        names = () if batch is None else tuple(batch.categories)
        statistics = batch_statistics(cells, n_batch=n_batch, log_input=log_input, names=names)
        z_nd = principal_components(cells, n_comps=n_comps, statistics=statistics, log_input=log_input)
    z_nd /= np.maximum(np.linalg.norm(z_nd, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    params |= {"method": "pca_cosine", "counts_from": counts.name, "random_state": seed}
    done = record(list(genes), params, seconds=time.perf_counter() - start)
    return write(adata, {("obsm", obsm_key): z_nd}, uns_key, done, copy=copy)
