"""Data sets with batches, as they are and with a major type taken out of each batch."""

from __future__ import annotations

import numpy as np
from anndata import AnnData

from benchmarks.quality.cells import draw_cells
from benchmarks.quality.data import load

#: what the batches share: everything that the data have, or in each batch all but one major type
COMPOSITIONS = ("even", "shift")
#: major types that are taken out in turn
N_MAJOR = 4
MAX_CELLS = 8_000
BATCH = "batch"


def prepare(name: str, composition: str) -> AnnData:
    """Counts with ``obs["cell_type"]`` and ``obs["batch"]``; at most 8,000 cells, drawn once."""
    adata = load(name)
    if BATCH not in adata.obs:
        raise KeyError(f"{name} should have the cells' batches in obs['{BATCH}'], but obs has {', '.join(adata.obs)}.")
    adata = adata[draw_cells(adata.n_obs, 0, MAX_CELLS)].copy()
    adata.obs[BATCH] = adata.obs[BATCH].astype(str).astype("category")
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(str)
    kept_n = np.ones(adata.n_obs, bool) if composition == "even" else ~taken_out(adata)
    return AnnData(adata.X[kept_n], obs=adata.obs.loc[kept_n, ["cell_type", BATCH]], var=adata.var[[]])


def taken_out(adata: AnnData) -> np.ndarray:
    """The cells of the i-th most frequent type in the i-th batch in sorted order, from the fifth on the first type again."""
    major = adata.obs["cell_type"].value_counts(sort=True).index[:N_MAJOR]
    batch_n, type_n = adata.obs[BATCH].astype(str), adata.obs["cell_type"]
    missing_n = batch_n.map({batch: major[i % len(major)] for i, batch in enumerate(sorted(batch_n.unique()))})
    return (type_n == missing_n).to_numpy()
