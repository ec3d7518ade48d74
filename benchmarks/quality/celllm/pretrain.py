"""``celllm --task pretrain``: what CellLM's embedding is worth without labels, and what its parts add to it."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from sc_ssl import models, tl
from sc_ssl.pp import ppi_gene_embeddings
from sc_ssl.pp.ppi_gene_embeddings import read_graph

from ._bars import draw_bars
from ._data import load, resource
from ._rows import QUIET, Embed, built, pca_standard, pca_weighed, scvi, untrained
from ._runs import Runs, asked_for, every, page
from .richter._cells import labelled
from .richter.neighbours import by_neighbours, logistic

DATASETS = ("pancreas_baron_mouse", "pbmc_zheng_facs")
KEYS = ("dataset", "method", "seed")
MEASURES = ("macro_f1", "accuracy")
#: cells of a data set that are used at most, drawn anew for each seed
MAX_CELLS = 1100
LARGE_BATCH, MICRO_BATCH = 1024, 128
GRAPH, N_GENE_DIMS = "ppi_string_highconf_cellchat_human", 128


def celllm(batch: dict[str, int] | None = None, **options: Any) -> Embed:
    """CellLM at its defaults but for these options, as many times through the cells whatever the minibatch."""

    def embed(adata: AnnData, seed: int) -> np.ndarray:
        training = {"max_epochs": models.CellLM.training.max_epochs, "train_kwargs": QUIET | (batch or {})}
        tl.embed(adata, "celllm", random_state=seed, key_added="benchmark", **training, **options)
        return adata.obsm["benchmark"]

    return embed


@cache
def protein_vectors() -> pd.DataFrame:
    """Vectors of human genes by their interactions, genes by name."""
    edges = resource(f"{GRAPH}.tsv.gz")
    return ppi_gene_embeddings(list(read_graph(edges)[0]), edges, N_GENE_DIMS)


def with_proteins(**options: Any) -> Embed:
    """CellLM with these vectors, for data sets of human gene names."""
    return lambda adata, seed: celllm(gene_embeddings=protein_vectors(), **options)(adata, seed)


def random_vectors(adata: AnnData, seed: int) -> np.ndarray:
    """The network as it is before training, with vectors of genes that are random too."""
    with built(models.CellLM, adata, seed, n_start_components=0) as model:
        model.is_trained_ = True
        return model.get_latent_representation()


ROWS = {
    "CellLM": by_neighbours(celllm()),
    "CellLM, masked term alone": by_neighbours(celllm(contrastive_weight=0.0)),
    "CellLM, terms of equal weight": by_neighbours(celllm(contrastive_weight=1.0)),
    "CellLM, contrastive term alone": by_neighbours(celllm(masked_weight=0.0)),
    "CellLM, N = 1,024": by_neighbours(celllm({"batch_size": LARGE_BATCH, "micro_batch_size": MICRO_BATCH})),
    "CellLM, N = 1,024, masked term alone": by_neighbours(celllm({"batch_size": LARGE_BATCH}, contrastive_weight=0.0)),
    "CellLM, vectors of genes start at random": by_neighbours(celllm(n_start_components=0)),
    "untrained": by_neighbours(untrained(models.CellLM)),
    "untrained, random vectors of genes": by_neighbours(random_vectors),
    "PCA, 2,000 genes, 50 components": by_neighbours(pca_standard),
    "PCA, weighed genes, 20 components": by_neighbours(pca_weighed),
    "scVI": by_neighbours(scvi),
    "variable genes, logistic regression (supervised)": logistic,
}
#: run only when they are asked for by name
ON_DEMAND = {
    "CellLM, vectors of proteins added": by_neighbours(with_proteins()),
    "CellLM, vectors of proteins alone": by_neighbours(with_proteins(n_start_components=0)),
}


def run(names: list[str], n_seeds: int, out: Path, methods: list[str] | None = None) -> None:
    """Do the runs that are missing in ``out/celllm_pretrain.csv`` and write its page and picture."""
    runs = Runs(out / "celllm_pretrain.csv", KEYS)
    rows = asked_for(ROWS, ON_DEMAND, methods)
    for this in runs.missing(every(names, n_seeds, rows, methods)):
        adata = labelled(load(this["dataset"]), this["seed"], MAX_CELLS)
        start = time.process_time()
        scores = rows[this["method"]](adata, this["seed"])
        runs.add(this | scores | {"processor_seconds": round(time.process_time() - start, 1)})
    table = runs.table()
    (out / "celllm_pretrain.md").write_text(page(table, "celllm --task pretrain", [*MEASURES, "processor_seconds"]))
    draw_bars(table, MEASURES, out / "celllm_pretrain.png")
