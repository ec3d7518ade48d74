"""The genes that vary most."""

from typing import Literal

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from sklearn.utils.sparsefuncs import mean_variance_axis

from sc_ssl._threads import threads_kept
from sc_ssl.data import (
    check_batches,
    check_cells,
    check_kind,
    check_values,
    find_counts,
    iter_chunks,
    obs_categories,
    take_rows,
)

#: more cells than this do not change which genes vary; evenly spread ones are taken
MAX_CELLS = 100_000


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
        Cells × genes with raw counts, in memory or backed; not changed. Above 100,000 cells, evenly spread ones are
        looked at.
    n_top_genes
        How many; all that have counts when there are fewer, or with ``None``.
    layer
        Layer of counts; ``None`` takes ``layers["counts"]`` if there, else ``X``.
    batch_key
        Column of ``obs``: genes that vary within many batches come first.
    input
        ``"log1p"`` when the matrix is log-normalised already.

    Raises
    ------
    ValueError
        Not counts; a value that is no number; no gene with a count, or none that varies between cells; a batch of one
        cell; ``n_top_genes`` under 1.
    """
    check_cells(adata)
    if n_top_genes is not None and n_top_genes < 1:
        raise ValueError(f"n_top_genes is at least 1, found {n_top_genes}.")
    source = find_counts(adata, layer)
    check_kind(source, input)
    step = -(-adata.n_obs // MAX_CELLS)
    cells = np.arange(0, adata.n_obs, step)
    obs = pd.DataFrame(index=adata.obs_names[cells])
    if batch_key is not None:
        check_batches(adata, batch_key)
        obs["batch"] = pd.Categorical(obs_categories(adata, batch_key)[cells])
    sample = AnnData(take_rows(source.matrix, cells), obs=obs, var=pd.DataFrame(index=adata.var_names))
    library = np.asarray(sample.X.sum(axis=1)).ravel()
    if not np.isfinite(library).all():
        check_values(source._replace(matrix=sample.X), sample)
    filled = library > 0  # an empty cell says nothing about which genes vary
    expressed = np.asarray(sum(chunk.sum(axis=0) for _, chunk in iter_chunks(sample.X))).ravel() > 0
    if not expressed.any():
        raise ValueError(f"{source.name} holds no count at all: every value is 0.")
    sample = sample[filled, expressed].copy()
    with threads_kept():
        if input == "counts":
            sc.pp.normalize_total(sample)
            sc.pp.log1p(sample)
        _check_variation(sample, source.name, batch_key)
        return _by_dispersion(sample, batched=batch_key is not None)[:n_top_genes]


def _check_variation(log_cells: AnnData, name: str, batch_key: str | None) -> None:
    """An error when all cells, or all of a batch, are alike."""
    of_batch = {"": slice(None)} if batch_key is None else log_cells.obs.groupby("batch", observed=True).indices
    for batch, rows in of_batch.items():
        cells = log_cells.X[rows]
        if mean_variance_axis(cells, axis=0)[1].max() < 1e-10:
            where = f" in batch {batch!r} of obs[{batch_key!r}]" if batch_key is not None else ""
            raise ValueError(
                f"no gene in {name} varies between cells{where}: all {cells.shape[0]} with counts are alike."
            )


def _by_dispersion(log_cells: AnnData, *, batched: bool) -> pd.Index:
    """All genes by scanpy's normalised dispersion, ties in the order of ``var``."""
    table = sc.pp.highly_variable_genes(
        log_cells,
        flavor="seurat",
        n_top_genes=log_cells.n_vars,
        batch_key="batch" if batched else None,
        inplace=False,
    )
    by = ["highly_variable_nbatches", "dispersions_norm"] if batched else ["dispersions_norm"]
    table = table.set_index(log_cells.var_names) if not table.index.equals(log_cells.var_names) else table
    return table.sort_values(by, ascending=False, kind="stable", na_position="last").index
