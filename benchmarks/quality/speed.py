"""Seconds of embedding, as ratios to scVI's defaults in the same run, and the share that is host overhead.

Processor seconds are what is compared: on one thread they do not depend on what else the machine is doing.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse

from sc_ssl import _compat, models
from sc_ssl.data import CellLoader
from sc_ssl.pp import select_genes
from sc_ssl.train import seeded

from ._data import load
from ._rows import METHODS, ON_DEMAND, QUIET
from ._runs import Runs, markdown, provenance

DATASETS = ("pbmc4k", "worm_neuron")
CLASSES = {"masksc": models.MaskSC, "contrastive_sc": models.ContrastiveSC}


def run(names: list[str], n_seeds: int, out: Path, methods: list[str] | None = None) -> None:
    """Time what is missing in ``out/speed.csv`` and write ``speed.md``; one seed is enough, data sets one by one."""
    runs = Runs(out / "speed.csv", ("dataset", "method", "seed"))
    wanted = [
        {"dataset": name, "method": method, "seed": seed}
        for name in names
        for method in methods or ("scvi", *CLASSES)
        for seed in range(n_seeds)
    ]
    for this in runs.missing(wanted):
        adata = load(this["dataset"])
        genes = select_genes(adata, 2000)
        # two of the methods are told the number of types
        cells = AnnData(sparse.csr_matrix(adata.X), obs=adata.obs[["cell_type"]], var=adata.var[[]])[:, genes].copy()
        wall, processor = time.perf_counter(), time.process_time()
        (METHODS | ON_DEMAND)[this["method"]](cells, this["seed"])
        taken = {"seconds": time.perf_counter() - wall, "processor_seconds": time.process_time() - processor}
        overhead = _host_overhead(CLASSES[this["method"]], cells) if this["method"] in CLASSES else float("nan")
        runs.add(this | taken | {"host_overhead": overhead, "threads": torch.get_num_threads()})
    table = _table(runs.table())
    lines = [f"<!-- written by python -m sc_ssl.benchmark speed -->\n{provenance()}.\n"]
    lines += markdown(table.set_index("dataset"), "dataset")
    (out / "speed.md").write_text("\n".join(lines) + "\n")
    print(table.to_string(index=False))


def rows() -> tuple[str, ...]:
    """What ``--methods`` takes."""
    return tuple(METHODS | ON_DEMAND)


def _host_overhead(model_class: type, cells: AnnData, n_epochs: int = 10) -> float:
    """1 − (forward, backward and optimiser steps on minibatches that lie ready) / (the same epochs of ``train``)."""
    cells = cells.copy()
    with seeded(0):
        model_class.setup_anndata(cells)
        model = model_class(cells)
        options: dict[str, Any] = {"accelerator": "cpu", **QUIET}
        trained_on = model._training_cells(max_epochs=1, **options)
        defaults, module = model.training, model.module
        seconds = {}
        for epochs in (1, 1 + n_epochs):  # the difference leaves out what happens once a training
            start = time.process_time()
            models.fit(model, module, defaults, cells=trained_on, max_epochs=epochs, **options)
            seconds[epochs] = time.process_time() - start
        per_epoch = (seconds[1 + n_epochs] - seconds[1]) / n_epochs
        bare = _bare_epoch(module, trained_on, defaults, n_epochs)
    _compat.release(type(model), cells)
    return 1 - bare / per_epoch


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
            torch.stack(list(module.ssl_loss(minibatch).values())).sum().backward()
            if defaults.gradient_clip_val is not None:
                torch.nn.utils.clip_grad_norm_(parameters, defaults.gradient_clip_val)
            optimizer.step()
    return (time.process_time() - start) / n_epochs


def _table(runs: pd.DataFrame) -> pd.DataFrame:
    mean = (
        runs.groupby(["dataset", "method"], sort=False)[["seconds", "processor_seconds", "host_overhead"]]
        .mean()
        .reset_index()
    )
    scvi = mean[mean["method"] == "scvi"].set_index("dataset")["processor_seconds"]
    mean["times faster than scVI"] = mean["dataset"].map(scvi) / mean["processor_seconds"]
    return mean.round(3)
