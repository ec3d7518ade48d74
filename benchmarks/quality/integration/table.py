"""``python -m benchmarks.quality integration``: this package's methods beside Harmony, ComBat, Scanorama, Concord and scVI."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import scanpy as sc
from anndata import AnnData

from benchmarks.quality.embeddings import Embed, ours, pca_standard, scvi
from benchmarks.quality.runs import Run
from benchmarks.quality.table import Table
from sc_ssl.pp import select_genes

from . import peers
from .batches import COMPOSITIONS, prepare
from .scores import score

BATCH = "batch"
#: as in `pca_standard`
N_TOP_GENES, N_COMPONENTS, CLIP = 2_000, 50, 10.0
DATASETS = ("pbmc_kang_muscat", "pbmc_3tech_symphony", "celllines_mixology", "pancreas_baron_mouse")


def logged(adata: AnnData) -> AnnData:
    """2,000 genes that vary within batches, log-normalised."""
    cells = AnnData(adata.X.copy(), obs=adata.obs[[BATCH]].copy(), var=adata.var[[]].copy())
    sc.pp.normalize_total(cells)
    sc.pp.log1p(cells)
    return cells[:, select_genes(adata, N_TOP_GENES, batch_key=BATCH)].copy()


def combat(adata: AnnData, seed: int) -> np.ndarray:
    """Components of ComBat's corrected expression; the same for every seed."""
    cells = logged(adata)
    cells.X = cells.X.toarray().astype(np.float64)
    cells = cells[:, cells.X.std(axis=0) > 0].copy()
    sc.pp.combat(cells, BATCH)
    return components(cells)


def peer(name: str) -> Embed:
    """A method of others, in the environment of the peers."""

    def embed(adata: AnnData, seed: int) -> np.ndarray:
        cells = logged(adata)
        log_ng = cells.X.toarray()
        return peers.run(name, log_ng, components(cells), cells.obs[BATCH].to_numpy(), seed)

    return embed


def components(cells: AnnData) -> np.ndarray:
    """50 principal components of z-scores clipped at 10."""
    scaled = sc.pp.scale(cells, max_value=CLIP, copy=True)
    return sc.pp.pca(np.asarray(scaled.X, dtype=np.float32), n_comps=N_COMPONENTS, random_state=0)


ROWS: dict[str, Embed] = {
    "PCA": pca_standard,
    "pca_cosine": ours("pca_cosine"),
    "pca_cosine, batch named": ours("pca_cosine", batch_key=BATCH),
    "Harmony": peer("harmony"),
    "ComBat": combat,
    "Scanorama": peer("scanorama"),
    "Concord": peer("concord"),
    "scVI": partial(scvi, batch_key=BATCH),
    **{name: ours(name) for name in ("masksc", "mae", "contrastive_sc")},
    **{f"{name}, batch named": ours(name, batch_key=BATCH) for name in ("masksc", "mae", "contrastive_sc")},
}
ON_DEMAND: dict[str, Embed] = {
    f"{name}{'' if key is None else ', batch named'}": ours(name, batch_key=key)
    for name in ("barlow_twins", "vicreg", "simclr", "byol")
    for key in (None, BATCH)
}


def evaluate(z_nd: np.ndarray, adata: AnnData, this: Run) -> Mapping[str, Any]:
    """Scores by types that no method saw."""
    return score(z_nd, adata.obs["cell_type"].to_numpy(), adata.obs[BATCH].astype(str).to_numpy(), seed=this["seed"])


def benchmark() -> Table:
    """What the command line runs."""
    return Table(
        name="integration",
        command="integration",
        datasets=DATASETS,
        rows=ROWS,
        on_demand=ON_DEMAND,
        prepare=prepare,
        shared_by=("dataset", "composition"),
        fit=lambda embed, adata, this: embed(adata.copy(), this["seed"]),
        evaluate=evaluate,
        measures=("ari", "f1", "mix"),
        varied={"composition": COMPOSITIONS},
        keys=("dataset", "composition", "method", "seed"),
        order=("seed", "dataset", "composition", "method"),
        by=("dataset", "composition"),
        title="{0}, {1}",
    )
