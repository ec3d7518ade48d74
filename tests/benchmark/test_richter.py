import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier

from sc_ssl.benchmark import richter
from sc_ssl.benchmark.__main__ import main


@pytest.fixture
def cite(build_counts):
    counts = build_counts(n_cells=90, n_genes=120)
    values = np.random.default_rng(0).normal(size=(3, 4))[counts.obs["cell_type"].cat.codes]
    counts.obsm["protein_norm"] = values + 0.1 * np.random.default_rng(1).normal(size=(90, 4))
    return counts


def test_neighbours_of_a_perfect_and_of_an_empty_embedding(cite):
    perfect = np.eye(3)[cite.obs["cell_type"].cat.codes] + 1e-3
    score = richter.by_neighbours(lambda adata, seed: perfect)(cite, 0)
    assert score == {"macro_f1": 1.0, "accuracy": 1.0}
    noise = richter.by_neighbours(lambda adata, seed: np.random.default_rng(0).normal(size=(90, 5)))(cite, 0)
    assert noise["macro_f1"] < 0.6


def test_rare_types_are_left_out_and_cells_are_drawn_by_the_seed(cite, monkeypatch):
    cite.obs["cell_type"] = pd.Categorical(["rare"] * 5 + ["common"] * 85)
    monkeypatch.setattr(richter, "load", lambda name: cite)
    monkeypatch.setattr(richter, "MAX_CELLS", 60)
    first, again, other = (richter.labelled("x", seed) for seed in (0, 0, 1))
    assert set(first.obs["cell_type"]) == {"common"}
    assert first.obs_names.equals(again.obs_names)
    assert not first.obs_names.equals(other.obs_names)


def test_proteins_of_test_cells_are_hidden_and_they_alone_are_scored(cite, monkeypatch):
    monkeypatch.setattr(richter, "load", lambda name: cite)
    adata = richter.with_proteins("x", 0)
    test = adata.obs["test"].to_numpy()
    assert test.sum() == 18
    assert adata.obsm["protein"][test].isna().all(axis=None)
    assert adata.obsm["protein"][~test].notna().all(axis=None)
    predicted = np.where(test[:, None], adata.obsm["truth"], 0)
    assert richter._correlate(adata, predicted)["per_feature"] == pytest.approx(1)
    assert richter.ridge_on(richter._variable_genes)(adata, 0)["per_feature"] > 0.8


def test_macro_f1_is_the_mean_over_types(cite):
    cite.obs["cell_type"] = pd.Categorical(["a"] * 60 + ["b"] * 30)
    score = richter._classify(DummyClassifier(strategy="most_frequent"), np.zeros((90, 1)), cite, 0)
    # all are called a: precision 2/3 and recall 1, and nothing for b
    assert score == pytest.approx({"macro_f1": (0.8 + 0) / 2, "accuracy": 2 / 3})


@pytest.mark.parametrize("task", richter.TASKS)
def test_a_task_is_resumed_and_writes_its_page(cite, tmp_path, monkeypatch, capsys, task):
    done = []

    def row(adata, seed):
        done.append(seed)
        return dict.fromkeys(richter.TASKS[task].measures[:-1], 0.5 + seed / 10)

    for module in ("richter", "__main__"):
        monkeypatch.setattr(f"sc_ssl.benchmark.{module}.load", lambda name: cite)
    monkeypatch.setitem(richter.TASKS, task, richter.TASKS[task]._replace(rows={"mae": row, "ours": row}))
    arguments = ["richter", "--task", task, "--datasets", "cells", "--out", str(tmp_path)]
    assert main([*arguments, "--seeds", "1"]) == 0
    assert main([*arguments, "--seeds", "2"]) == 0
    assert done == [0, 0, 1, 1]
    page = (tmp_path / f"richter_{task}.md").read_text()
    assert "| ours | 0.550 ± 0.050 |" in page
    assert "### paper" in page and "20 million cells" in page
    first = richter.TASKS[task].measures[0]
    assert f"{richter.PUBLISHED[task]['mae'][first]:.3f}" in page
    assert (tmp_path / f"richter_{task}.png").stat().st_size > 3000


def test_an_unknown_task_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["richter", "--task", "cooking", "--out", str(tmp_path)])
    assert "invalid choice: 'cooking'" in capsys.readouterr().err
