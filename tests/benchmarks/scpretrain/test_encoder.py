"""The shipped encoder's benchmark: a tested data set is never trained on, and the card says what was."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from benchmarks.quality import data
from benchmarks.quality.__main__ import main
from benchmarks.quality.richter import neighbours
from benchmarks.quality.scpretrain import encoder, studies
from sc_ssl.models import ScPretrain, TrainingDefaults


@pytest.fixture
def benchmark(build_counts, monkeypatch, tmp_path):
    sets = {name: build_counts(90, seed=seed, depth=6.0) for seed, name in enumerate("abc")}
    for adata in sets.values():
        adata.var_names = [f"GENE{i}" for i in range(96)]
    for module in (data, neighbours):
        monkeypatch.setattr(module, "load", sets.__getitem__)
    monkeypatch.setattr(encoder, "load_all", sets.__getitem__)
    monkeypatch.setattr(encoder, "resource", lambda file: tmp_path / file)
    pd.DataFrame({"human_symbol": ["GENE1"], "mouse_symbol": ["Gene1"]}).to_csv(tmp_path / encoder.ORTHOLOGS)
    pd.DataFrame([["ENSG00000000001", "GENE1"]]).to_csv(tmp_path / encoder.ENSEMBL, header=False, index=False)
    monkeypatch.setattr(encoder, "SOURCES", {"a": "MIT", "b": "BSD-3-Clause"})
    monkeypatch.setattr(encoder, "RELATED", {})
    monkeypatch.setattr(encoder, "MIN_DATASETS", 1)
    quick = TrainingDefaults(max_epochs=2, batch_size=64, plan={"lr": 1e-3})
    monkeypatch.setattr(ScPretrain, "training", quick)
    return encoder


def test_table_card_and_encoder(benchmark, tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(
        benchmark,
        "train",
        lambda *args, train=benchmark.train, **options: (trained.append(args[1]), train(*args, **options)),
    )
    arguments = ["encoder", "--datasets", "a", "c", "--seeds", "1", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--ship", str(tmp_path / "shipped")]) == 0
    assert trained == [("b",), ("b",), ("a", "b"), ("a", "b")]
    runs = pd.read_csv(tmp_path / "out" / "encoder.csv")
    assert set(runs["method"]) == {"encoder", "untrained encoder", "PCA-50"}
    assert runs["macro_f1"].between(0, 1).all()
    text = (tmp_path / "out" / "encoder.md").read_text()
    mean = runs.loc[runs["method"] == "encoder", "macro_f1"].mean()
    assert f"| mean | | {mean:.3f} |" in text
    by_row = runs[runs["dataset"] == "c"].set_index("method")["macro_f1"]
    assert f"| c | 90 | {' | '.join(f'{by_row[row]:.3f}' for row in encoder.ROWS)} |" in text
    card = (tmp_path / "shipped" / "scpretrain" / "README.md").read_text()
    assert "| a | 90 | MIT |" in card and "2 epochs" in card and "1 mouse symbols" in card
    assert main(arguments) == 0
    assert len(trained) == 4


def test_untrained_and_trained_encoders_differ_in_weights_only(benchmark, tmp_path):
    this = {"dataset": "c", "seed": 0}
    adata = benchmark.load_all("c")
    z = {m: benchmark._embedding(this | {"method": m}, adata, tmp_path) for m in encoder.ROWS}
    assert z["encoder"].shape == z["untrained encoder"].shape
    assert not np.allclose(z["encoder"], z["untrained encoder"])


def test_sources_are_known_and_permissively_licensed():
    assert not set(encoder.SOURCES) & set(encoder.LEFT_OUT)
    assert all(licence.startswith(("MIT", "BSD", "Apache")) for licence in encoder.SOURCES.values())
    known = {*studies.DATASETS, *studies.UNLABELLED, "pbmc_cite_5k10k_subset", "pancreas_baron_hs_mm_cider"}
    assert {*encoder.SOURCES, *encoder.LEFT_OUT} == known
    for name, related in studies.RELATED.items():  # what shares donors there does so here
        assert set(related) & set(encoder.SOURCES) <= set(encoder.RELATED.get(name, ())) or name not in encoder.DATASETS


def test_equalised_axes_have_a_quarter_of_the_exponent_of_their_variance():
    torch.manual_seed(0)
    linear = nn.Linear(5, 3)
    x = torch.randn(400, 5) * torch.tensor([9.0, 1, 1, 1, 0.2])
    before = [linear(part).detach().numpy() for part in (x[:200], x[200:] + 7)]
    encoder.equalise(linear, before)
    after = [linear(part).detach().numpy() for part in (x[:200], x[200:] + 7)]
    old, new = (np.concatenate([z - z.mean(axis=0) for z in parts]) for parts in (before, after))
    covariance = new.T @ new / len(new)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-4)
    sd = np.sqrt(np.linalg.eigvalsh(old.T @ old / len(old)))
    np.testing.assert_allclose(np.diag(covariance), sd**0.5 / np.mean(sd**0.5), rtol=1e-3)
    np.testing.assert_allclose(np.mean([z.mean(axis=0) for z in after], axis=0), 0, atol=1e-4)
