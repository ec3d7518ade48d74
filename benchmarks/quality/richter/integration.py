"""Integration of batches, given as ``batch_key``: scIB's scores of cell types kept and batches mixed."""

from __future__ import annotations

import warnings
from functools import partial
from types import ModuleType

import numpy as np
from anndata import AnnData

from benchmarks.quality.cells import labelled
from benchmarks.quality.data import load
from benchmarks.quality.embeddings import Embed, ours, pca_standard, scvi
from sc_ssl.metrics import pca_space

from .task import Row, Task, task

MAX_CELLS = 2000
BATCH = "batch"
EMBEDDINGS: dict[str, Embed] = {
    "mae": ours("mae", batch_key=BATCH),
    "mae, nb": ours("mae", batch_key=BATCH, likelihood="nb"),
    "masksc": ours("masksc", batch_key=BATCH),
    "contrastive_sc": ours("contrastive_sc", batch_key=BATCH),
    "scvi": partial(scvi, batch_key=BATCH),
    "pca": pca_standard,
}
#: as printed: three atlases of the lung
PUBLISHED = {"mae": {"total": 0.564}}
#: ours and what scib-metrics calls them
SCORES = {"total": "Total", "types kept": "Bio conservation", "batches mixed": "Batch correction"}


def cells(name: str, seed: int) -> AnnData:
    """At most 2,000 cells with types and batches."""
    _scib()
    adata = labelled(load(name), seed, MAX_CELLS)
    if BATCH not in adata.obs:
        raise KeyError(f"{name} should have the cells' batches in obs['{BATCH}'], but obs has {', '.join(adata.obs)}.")
    adata.obs[[BATCH, "cell_type"]] = adata.obs[[BATCH, "cell_type"]].astype(str).astype("category")
    return adata


def integrated(embed: Embed) -> Row:
    """The embedding, which takes the batches but not the types."""

    def row(adata: AnnData, seed: int) -> dict[str, float]:
        return scib(adata, embed(adata.copy(), seed))

    return row


def scib(adata: AnnData, embedding: np.ndarray) -> dict[str, float]:
    """0.6 of what is kept of the types and 0.4 of how batches are mixed; without isolated labels, as in the paper."""
    scib = _scib()
    spaces = {"embedding": np.asarray(embedding), "unintegrated": pca_space(adata.X)}
    cells = AnnData(adata.X, obs=adata.obs[[BATCH, "cell_type"]], obsm=spaces)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        benchmarker = scib.Benchmarker(
            cells,
            batch_key=BATCH,
            label_key="cell_type",
            embedding_obsm_keys=["embedding"],
            bio_conservation_metrics=scib.BioConservation(isolated_labels=False),
            pre_integrated_embedding_obsm_key="unintegrated",
            progress_bar=False,
        )
        benchmarker.benchmark()
        found = benchmarker.get_results(min_max_scale=False).loc["embedding"]
    return {ours: float(found[theirs]) for ours, theirs in SCORES.items()}


def _scib() -> ModuleType:
    """scib-metrics; its absence is an error before anything is trained."""
    try:
        from scib_metrics import benchmark
    except ImportError as error:
        raise ImportError("scores of integration need scib-metrics: pip install --group benchmarks.") from error
    return benchmark


def benchmark() -> Task:
    """What the command line runs."""
    return task(
        "integration",
        datasets=("pbmc_kang_muscat", "pbmc_3tech_symphony", "celllines_mixology"),
        prepare=cells,
        rows={name: integrated(embed) for name, embed in EMBEDDINGS.items()},
        measures=tuple(SCORES),
        published=PUBLISHED,
        note="three atlases of the lung, scored with other versions of the metrics",
    )
