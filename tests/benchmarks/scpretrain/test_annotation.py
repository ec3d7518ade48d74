"""Leave-one-data-set-out: the target is never pretrained on, splits are shared, the page says what was run."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.quality import data
from benchmarks.quality.__main__ import main
from benchmarks.quality.scpretrain import annotation, studies
from benchmarks.quality.scpretrain.rows import ROWS, Target


@pytest.fixture
def sets(build_counts):
    found = {name: build_counts(90, seed=seed, depth=6.0) for seed, name in enumerate(("a", "b", "c"))}
    for adata in found.values():
        adata.var_names = [f"GENE{i}" for i in range(96)]
    return found


@pytest.fixture
def benchmark(sets, monkeypatch, tmp_path):
    for module in (annotation, data):
        monkeypatch.setattr(module, "load", sets.__getitem__)
        monkeypatch.setattr(module, "resource", lambda name: tmp_path / name)
    monkeypatch.setattr(annotation, "load_all", sets.__getitem__)
    monkeypatch.setattr(studies, "DATASETS", ("a", "b"))
    monkeypatch.setattr(studies, "UNLABELLED", ("c",))
    return annotation


def test_the_target_and_its_relatives_are_not_pretrained_on(benchmark, monkeypatch):
    assert set(benchmark.left_out("a").others) == {"b", "c"}
    monkeypatch.setattr(studies, "RELATED", {"a": ("c",)})
    assert set(benchmark.left_out("a").others) == {"b"}


def test_related_data_sets_exist():
    known = {*studies.DATASETS, *studies.UNLABELLED}
    assert set(studies.RELATED) <= known
    assert all(set(related) <= known for related in studies.RELATED.values())


def test_splits_hold_every_type_and_the_papers_number():
    labels = np.repeat(["a", "b", "c"], [500, 40, 2])
    for n, expected in ((20, 20), (2, 3), (0, 325), (500, 433)):
        train = annotation.split(labels, n, seed=1)
        assert len(train) == len(set(train)) == expected
        assert set(labels[train]) == {"a", "b", "c"}
    assert not np.array_equal(annotation.split(labels, 20, 0), annotation.split(labels, 20, 1))


@pytest.mark.parametrize("row", list(ROWS))
def test_every_row_gives_probabilities_that_are_right(sets, row, monkeypatch):
    from sc_ssl.models import ScPretrain, TrainingDefaults

    monkeypatch.setattr(ScPretrain, "training", TrainingDefaults(max_epochs=10, batch_size=64, plan={"lr": 1e-3}))
    target = Target(sets["a"], {"b": sets["b"], "c": sets["c"]}, None)
    train = annotation.split(target.labels, 60, seed=0)
    proba, classes = ROWS[row](target, train, 0)
    test = np.setdiff1d(np.arange(90), train)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)
    assert np.mean(np.asarray(classes)[proba[test].argmax(axis=1)] == target.labels[test]) > 0.7


def test_page_and_picture_go_on_where_they_stopped(benchmark, tmp_path, monkeypatch):
    done = []

    def row(target, train, seed):
        done.append(seed)
        hot = pd.get_dummies(pd.Series(target.labels)).astype(float)
        return (0.9 * hot + 0.1 / 3).to_numpy(), list(hot.columns)

    monkeypatch.setattr(benchmark, "ROWS", {"no pretraining": row, "ScPretrain fine-tuned": row})
    arguments = ["scpretrain", "--datasets", "a", "b", "--out", str(tmp_path)]
    assert main([*arguments, "--seeds", "1"]) == 0
    assert main([*arguments, "--seeds", "1"]) == 0
    assert done == [0] * 16
    text = (tmp_path / "scpretrain.md").read_text()
    assert "### 20 labelled cells" in text and "### min(1000, 60 %) labelled cells" in text
    assert "| scPretrain (paper) | 0.939 | 0.882 |  | 0.841 | 0.975 |" in text
    assert "+0.000 (+0.000 to +0.000) | 1 | 50% | 2 |" in text
    assert (tmp_path / "scpretrain.png").stat().st_size > 5000
