"""``celllm --task pretrain``: how good CellLM's embedding is without labels, and what its parts add to it."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from benchmarks.quality.cells import labelled
from benchmarks.quality.data import load, resource
from benchmarks.quality.embeddings import QUIET, Embed, ours, pca_standard, pca_weighed, scvi, untrained
from benchmarks.quality.richter.neighbours import by_neighbours, logistic
from benchmarks.quality.table import Table
from sc_ssl import models
from sc_ssl.pp import ppi_gene_embeddings
from sc_ssl.pp.ppi_gene_embeddings import read_graph

DATASETS = ("pancreas_baron_mouse", "pbmc_zheng_facs")
MEASURES = ("macro_f1", "accuracy")
#: cells of a data set that are used at most, other ones for each seed
MAX_CELLS = 1100
LARGE_BATCH, MICRO_BATCH = 1024, 128
GRAPH, N_GENE_DIMS = "ppi_string_highconf_cellchat_human", 128


def celllm(batch: dict[str, int] | None = None, **options: Any) -> Embed:
    """CellLM at its defaults but for these options, as many times through the cells whatever the minibatch."""

    def embed(adata: AnnData, seed: int) -> np.ndarray:
        training = {"max_epochs": models.CellLM.training.max_epochs, "train_kwargs": QUIET | (batch or {})}
        return ours("celllm", **training, **options)(adata, seed)

    return embed


@cache
def protein_vectors() -> pd.DataFrame:
    """Vectors of human genes by their interactions, genes by name."""
    edges = resource(f"{GRAPH}.tsv.gz")
    return ppi_gene_embeddings(list(read_graph(edges)[0]), edges, N_GENE_DIMS)


def with_proteins(**options: Any) -> Embed:
    """CellLM with these vectors, for data sets of human gene names."""
    return lambda adata, seed: celllm(gene_embeddings=protein_vectors(), **options)(adata, seed)


ROWS = {
    "CellLM": by_neighbours(celllm()),
    "CellLM, masked term alone": by_neighbours(celllm(weights={"contrastive": 0.0})),
    "CellLM, terms of equal weight": by_neighbours(celllm(weights={"contrastive": 1.0})),
    "CellLM, contrastive term alone": by_neighbours(celllm(weights={"masked": 0.0})),
    "CellLM, N = 1,024": by_neighbours(celllm({"batch_size": LARGE_BATCH, "micro_batch_size": MICRO_BATCH})),
    "CellLM, N = 1,024, masked term alone": by_neighbours(celllm({"batch_size": LARGE_BATCH}, weights={"contrastive": 0.0})),
    "CellLM, vectors of genes start at random": by_neighbours(celllm(n_start_components=0)),
    "untrained": by_neighbours(untrained("celllm")),
    "untrained, random vectors of genes": by_neighbours(untrained("celllm", n_start_components=0)),
    "PCA, 2,000 genes, 50 components": by_neighbours(pca_standard),
    "PCA, weighed genes, 20 components": by_neighbours(pca_weighed),
    "scVI": by_neighbours(scvi),
    "variable genes, logistic regression (supervised)": logistic,
}
#: run only when they are named
ON_DEMAND = {
    "CellLM, vectors of proteins added": by_neighbours(with_proteins()),
    "CellLM, vectors of proteins alone": by_neighbours(with_proteins(n_start_components=0)),
}


def benchmark() -> Table:
    """What the command line runs."""
    return Table(
        name="celllm_pretrain",
        command="celllm --task pretrain",
        datasets=DATASETS,
        rows=ROWS,
        on_demand=ON_DEMAND,
        prepare=cells,
        clocks=("processor_seconds",),
        measures=MEASURES,
    )


def cells(name: str, seed: int) -> AnnData:
    """At most 1,100 cells with types."""
    return labelled(load(name), seed, MAX_CELLS)
