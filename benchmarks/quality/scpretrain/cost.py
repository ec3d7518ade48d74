"""What ScPretrain costs: an epoch and peak memory by cells and by data sets, and cells embedded a second.

Each measurement has a process of its own, whose peak memory is its own. Processor seconds depend less than wall-clock
seconds on what else the machine is doing; both stand in the table.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from benchmarks.quality.data import load
from benchmarks.quality.embeddings import QUIET
from benchmarks.quality.page import markdown
from benchmarks.quality.runs import Run
from benchmarks.quality.table import Table
from sc_ssl.models import ScPretrain
from sc_ssl.tl import embed
from sc_ssl.train import seeded

DATASETS = ("pbmc_zheng_facs",)
KEYS = ("dataset", "method", "times", "seed")
#: cells that are repeated, and genes
N_CELLS, N_GENES = 1000, 2000
TIMES = (1, 4, 16)
#: epochs that are timed, after one that is not
N_EPOCHS = 4
#: cells that are embedded: the data set, as often as it takes
N_EMBEDDED = 20_000


class Cost(Table):
    """Means over seeds."""

    def lines(self, runs: pd.DataFrame) -> list[str]:
        """One table."""
        shown = runs.groupby(list(KEYS[:3]), sort=False).mean(numeric_only=True).drop(columns="seed").reset_index()
        shown = shown.astype(dict.fromkeys(("cells", "threads"), int)).set_index("dataset")
        return markdown(shown, "data set")


def benchmark() -> Cost:
    """What the command line runs; one seed is enough."""
    return Cost(
        name="scpretrain_cost",
        command="scpretrain_cost",
        datasets=DATASETS,
        rows=ROWS,
        varied={"times": TIMES},
        keys=KEYS,
        order=("dataset", "method", "times", "seed"),
        is_wanted=lambda this: this["method"] != "shipped encoder" or this["times"] == 1,
        prepare=lambda dataset: dataset,
        shared_by=("dataset",),
        fit=in_own_process,
        clocks=(),
    )


def in_own_process(row: Callable[..., dict[str, float]], name: str, this: Run) -> dict[str, float]:
    """Measure in a process whose memory nothing else has touched."""
    with multiprocessing.get_context("spawn").Pool(1) as process:
        return process.apply(row, (name, this["times"], this["seed"])) | {"threads": torch.get_num_threads()}


def more_cells(name: str, times: int, seed: int) -> dict[str, float]:
    """The same cells so many times, in one data set."""
    return _pretrain({name: _repeated(_some(name), times)}, seed)


def more_data_sets(name: str, times: int, seed: int) -> dict[str, float]:
    """Sixteen times the same cells, in so many data sets."""
    part = _repeated(_some(name), max(TIMES) // times)
    return _pretrain({f"{name}_{i}": part for i in range(times)}, seed)


def shipped_encoder(name: str, times: int, seed: int) -> dict[str, float]:
    """Cells a second by ``tl.embed(…, pretrained=True)``, from CSR with all genes in memory; the best of five."""
    adata = load(name)
    adata = _repeated(adata, -(-N_EMBEDDED // adata.n_obs))
    wall, processor = [], []
    for _ in range(5):
        start, used = time.perf_counter(), time.process_time()
        embed(adata, "scpretrain", pretrained=True)
        wall.append(time.perf_counter() - start)
        processor.append(time.process_time() - used)
    return _costs(adata.n_obs, min(wall), min(processor))


ROWS = {"more cells": more_cells, "more data sets": more_data_sets, "shipped encoder": shipped_encoder}


def _pretrain(studies: dict[str, AnnData], seed: int) -> dict[str, float]:
    with seeded(seed):
        model = ScPretrain.from_adatas(studies, n_top_genes=N_GENES)
        model.train(1, accelerator="cpu", **QUIET)
        wall, processor = time.perf_counter(), time.process_time()
        model.train(N_EPOCHS, accelerator="cpu", **QUIET)
    taken = (time.perf_counter() - wall) / N_EPOCHS, (time.process_time() - processor) / N_EPOCHS
    return _costs(sum(adata.n_obs for adata in studies.values()), *taken)


def _costs(n_cells: int, wall: float, processor: float) -> dict[str, float]:
    """Seconds of an epoch or of embedding, and the process's peak memory (ru_maxrss is in KiB on Linux)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    costs = {"cells": n_cells, "seconds": wall, "processor seconds": processor, "peak MiB": peak}
    return costs | {"cells a second": n_cells / wall, "cells a processor second": n_cells / processor}


def _some(name: str) -> AnnData:
    adata = load(name)
    return adata[np.linspace(0, adata.n_obs - 1, min(N_CELLS, adata.n_obs)).astype(int)].copy()


def _repeated(adata: AnnData, times: int) -> AnnData:
    return ad.concat([AnnData(adata.X, obs=adata.obs[[]], var=adata.var[[]])] * times, index_unique="-")
