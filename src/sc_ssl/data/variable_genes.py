"""The genes that vary most, of counts that were read."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from sklearn.utils.sparsefuncs import mean_variance_axis

from sc_ssl._threads import threads_kept

from .cells import check_batches, obs_categories
from .rows import SAMPLED_BLOCK, is_backed, iter_chunks, representative, take_rows

if TYPE_CHECKING:
    from scipy import sparse

    from .counts import Counts

#: more cells than this do not change which genes vary; evenly spread ones are taken
MAX_CELLS = 100_000
#: genes vary within each of at most so many batches, the largest, of at least so many cells
MAX_BATCHES, MIN_BATCH = 100, 10


def variable_genes(counts: Counts, n_top_genes: int | None = None, *, batch_key: str | None = None) -> pd.Index:
    """Names of the most variable genes, the most variable first; see :func:`sc_ssl.pp.select_genes`.

    Raises
    ------
    ValueError
        No gene with a count, or none that varies between cells; a batch of one cell; ``n_top_genes`` under 1.
    """
    if n_top_genes is not None and n_top_genes < 1:
        raise ValueError(f"n_top_genes is at least 1, found {n_top_genes}.")
    if batch_key is not None:
        check_batches(counts, batch_key)
    batch = None if batch_key is None else obs_categories(counts, batch_key)
    cells = _sampled(counts, batch)
    cells = cells[counts.library_size[cells] > 0]  # an empty cell has no part in which genes vary
    sample, expressed = _expressed(counts, cells)
    if not expressed.any():
        raise ValueError(f"{counts.name} holds no count at all: every value is 0.")
    log_cells = AnnData(sample, obs=pd.DataFrame(index=counts.obs_names[cells]))
    log_cells.var_names = counts.var_names[expressed]
    if batch_key is not None:
        log_cells.obs["batch"] = pd.Categorical(batch[cells])
    with threads_kept():
        if counts.kind == "counts":
            sc.pp.normalize_total(log_cells)
            sc.pp.log1p(log_cells)
        _check_variation(log_cells, counts.name, batch_key)
        large = _in_large_batches(log_cells) if batch_key is not None else None
        if large is not None and large.any():
            return _by_dispersion(log_cells if large.all() else log_cells[large].copy(), batched=True)[:n_top_genes]
        return _by_dispersion(log_cells, batched=False)[:n_top_genes]


def _in_large_batches(log_cells: AnnData) -> np.ndarray:
    """Which cells are in the largest batches, of which each has enough cells to show which genes vary in it, (n,)."""
    size = log_cells.obs["batch"].value_counts().iloc[:MAX_BATCHES]
    return log_cells.obs["batch"].isin(size.index[size >= MIN_BATCH]).to_numpy()


def _sampled(counts: Counts, batch: pd.Index | None) -> np.ndarray:
    """Positions of the cells that are looked at, of all batches; from disk in blocks."""
    if batch is None and not is_backed(counts.matrix):
        return np.arange(0, counts.n_obs, -(-counts.n_obs // MAX_CELLS))
    code_n = np.zeros(counts.n_obs, int) if batch is None else pd.factorize(batch)[0]
    return representative(code_n, MAX_CELLS, block=SAMPLED_BLOCK if is_backed(counts.matrix) else 1)


def _expressed(counts: Counts, cells: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
    """A copy of these cells over the genes that one of them expresses, and which these genes are, (m,)."""
    whole = len(cells) == counts.n_obs and not is_backed(counts.matrix)
    sample = counts.matrix if whole else take_rows(counts.matrix, cells)
    if not len(cells):
        return sample, np.zeros(len(counts.var_names), bool)
    expressed = np.asarray(sum(chunk.sum(axis=0) for _, chunk in iter_chunks(sample))).ravel() > 0
    if not expressed.all():
        return sample[:, expressed], expressed
    return sample.copy() if whole else sample, expressed


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
    options = {"flavor": "seurat", "n_top_genes": log_cells.n_vars, "batch_key": "batch" if batched else None}
    try:
        with warnings.catch_warnings():
            # all are asked for, also those whose dispersion is not defined
            warnings.filterwarnings("ignore", message="`n_top_genes` > number of normalized dispersions")
            table = sc.pp.highly_variable_genes(log_cells, inplace=False, **options)
    except IndexError:  # scanpy's, when no gene varies more than another, as with one count a cell
        return log_cells.var_names
    by = ["highly_variable_nbatches", "dispersions_norm"] if batched else ["dispersions_norm"]
    table = table.set_index(log_cells.var_names) if not table.index.equals(log_cells.var_names) else table
    return table.sort_values(by, ascending=False, kind="stable", na_position="last").index
