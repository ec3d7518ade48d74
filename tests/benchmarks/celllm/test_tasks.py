"""CellLM's benchmark: its tasks are resumed, and its costs are those of one step alone."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.quality import data
from benchmarks.quality.__main__ import CELLLM_TASKS, main
from benchmarks.quality.celllm import annotation, cost, pretrain, tasks
from sc_ssl import models


@pytest.fixture
def cells(build_counts, monkeypatch):
    counts = build_counts(n_cells=90, n_genes=120)
    for module in (cost, pretrain, annotation, data):
        monkeypatch.setattr(module, "load", lambda name: counts.copy())
    return counts


def run(task, out, seeds=1):
    return main(["celllm", "--task", task, "--datasets", "cells", "--seeds", str(seeds), "--out", str(out)])


def test_the_command_knows_all_tasks():
    assert set(CELLLM_TASKS) == set(tasks.TASKS)


def test_pretraining_is_resumed_and_writes_its_page(cells, tmp_path, monkeypatch):
    done = []

    def row(adata, seed):
        done.append(seed)
        return {"macro_f1": 0.5 + seed / 10, "accuracy": 0.5}

    monkeypatch.setattr(pretrain, "ROWS", {"ours": row})
    assert run("pretrain", tmp_path) == run("pretrain", tmp_path, seeds=2) == 0
    assert done == [0, 1]
    assert "| ours | 0.550 ± 0.050 |" in (tmp_path / "celllm_pretrain.md").read_text()
    assert (tmp_path / "celllm_pretrain.png").stat().st_size > 3000


def test_annotation_scores_the_cells_whose_labels_were_not_given(cells, tmp_path, monkeypatch):
    def memorised(adata, train, seed):
        truth = adata.obs["cell_type"].astype(str).to_numpy()
        return np.where(np.isin(np.arange(adata.n_obs), train), truth, "nothing")

    monkeypatch.setattr(annotation, "ROWS", {"memorised": memorised})
    assert run("annotation", tmp_path) == 0
    page = (tmp_path / "celllm_annotation.md").read_text()
    assert "| memorised | 0.000 | 0.000 |" in page
    assert "71.8" in page and "88.9" in page and "93.4" in page


def test_classifiers_on_celllm_name_cells(cells, monkeypatch):
    monkeypatch.setattr(models.CellLM, "training", models.TrainingDefaults(2, 40))
    adata = annotation.cells("cells", 0)
    truth = adata.obs["cell_type"].astype(str).to_numpy()
    predicted = annotation.celllm(freeze_encoder=True)(adata, np.arange(0, 90, 2), 0)
    assert np.mean(predicted[1::2] == truth[1::2]) > 0.7


def test_a_step_takes_the_memory_and_time_of_its_parts(cells, tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "alone", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(cost, "step_cost", lambda name, way, n, seed: COSTS[way])
    monkeypatch.setattr(cost, "BATCH_SIZES", (256, 512))
    monkeypatch.setattr(cost, "N_TOKENS", (3, 5))
    monkeypatch.setattr(cost, "PADDED", 40)
    monkeypatch.setattr(cost, "WIDTHS", {"default": (8, 2, 4)})
    assert run("dnc", tmp_path) == 0
    page = (tmp_path / "celllm_dnc.md").read_text()
    assert "| divided | 512 | 200.000 | 10.000 | 0.0013 | 1.000 | 1.000 | 1.300 |" in page
    assert "| default | performer | 40 |" in page
    assert (tmp_path / "celllm_dnc.png").stat().st_size > 3000


COSTS = {
    "divided": {"peak_mb": 200.0, "step_mb": 10.0, "seconds_per_cell": 1.3e-3},
    "end to end": {"peak_mb": 400.0, "step_mb": 210.0, "seconds_per_cell": 1e-3},
}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is read where Linux keeps it")
def test_memory_of_a_step_is_that_of_its_largest_tensor():
    before = cost._reset_peak()
    x = torch.ones(2**24)  # 64 MB
    del x
    assert cost._memory("VmHWM") - before == pytest.approx(64, abs=8)
