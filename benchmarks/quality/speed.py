"""Seconds of embedding, as ratios to scVI's defaults in the same run, and the share that is host overhead.

Processor seconds are what is compared: on one thread they do not depend on what else the machine is doing.
"""

import time
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse

from sc_ssl import models
from sc_ssl.data import CellLoader
from sc_ssl.pp import select_genes

from .clustering import methods
from .data import load
from .embeddings import QUIET, Embed, built
from .page import markdown
from .runs import Run
from .table import Table

DATASETS = ("pbmc4k", "worm_neuron")
#: rows that are run by default, and those whose epochs are compared with bare steps
ROWS = ("scvi", "masksc", "contrastive_sc")
TRAINED = ("masksc", "contrastive_sc")
MEASURES = ["seconds", "processor_seconds", "host_overhead"]


class Speed(Table):
    """Means over seeds, as ratios to scVI."""

    def lines(self, runs: pd.DataFrame) -> list[str]:
        """One table."""
        return markdown(ratios(runs).set_index("dataset"), "dataset")


def benchmark() -> Speed:
    """What the command line runs; one seed is enough."""
    rows = methods.METHODS | methods.ON_DEMAND
    return Speed(
        name="speed",
        command="speed",
        datasets=DATASETS,
        rows={row: rows[row] for row in ROWS},
        on_demand={row: embed for row, embed in rows.items() if row not in ROWS},
        prepare=cells,
        shared_by=("dataset",),
        fit=embedded,
        evaluate=overhead,
        clocks=("seconds", "processor_seconds"),
    )


def cells(name: str) -> AnnData:
    """The 2,000 most variable genes."""
    adata = load(name)
    genes = select_genes(adata, 2000)
    # two of the methods take the number of types
    return AnnData(sparse.csr_matrix(adata.X), obs=adata.obs[["cell_type"]], var=adata.var[[]])[:, genes].copy()


def embedded(embed: Embed, adata: AnnData, this: Run) -> str:
    """Embed the cells; the name of the method."""
    embed(adata, this["seed"])
    return this["method"]


def overhead(method: str, adata: AnnData, this: Run) -> dict[str, float]:
    """The share of host overhead in training, of methods that are trained here."""
    share = _host_overhead(method, adata) if method in TRAINED else float("nan")
    return {"host_overhead": share, "threads": torch.get_num_threads()}


def _host_overhead(method: str, cells: AnnData, n_epochs: int = 10) -> float:
    """1 − (forward, backward and optimiser steps on minibatches that lie ready) / (the same epochs of ``train``)."""
    options: dict[str, Any] = {"accelerator": "cpu", **QUIET}
    with built(method, cells, 0) as model:
        *_, last = model.phases()
        defaults, module, trained_on = last.defaults, last.module, last.cells
        seconds = {}
        for epochs in (1, 1 + n_epochs):  # the difference leaves out what happens once a training
            start = time.process_time()
            model.train(epochs, **options)
            seconds[epochs] = time.process_time() - start
        per_epoch = (seconds[1 + n_epochs] - seconds[1]) / n_epochs
        return 1 - _bare_epoch(module, trained_on, defaults, n_epochs) / per_epoch


def _bare_epoch(module: torch.nn.Module, cells: Any, defaults: models.TrainingDefaults, n_epochs: int) -> float:
    index = np.arange(cells.n_cells)
    loader = CellLoader(cells, index, defaults.batch_size, drop_last=True, normalize=module.normalize)
    minibatches = list(loader)
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-6, fused=True)
    module.train()
    start = time.process_time()
    for _ in range(n_epochs):
        for minibatch in minibatches:
            optimizer.zero_grad()
            torch.stack(list(module.loss_terms(minibatch).values())).sum().backward()
            if defaults.gradient_clip_val is not None:
                torch.nn.utils.clip_grad_norm_(parameters, defaults.gradient_clip_val)
            optimizer.step()
    return (time.process_time() - start) / n_epochs


def ratios(runs: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, and how many times faster than scVI a row is, by processor seconds."""
    mean = runs.groupby(["dataset", "method"], sort=False)[MEASURES].mean().reset_index()
    scvi = mean[mean["method"] == "scvi"].set_index("dataset")["processor_seconds"]
    mean["times faster than scVI"] = mean["dataset"].map(scvi) / mean["processor_seconds"]
    return mean
