import numpy as np
import pytest

from benchmarks.quality.cells import variable_genes
from benchmarks.quality.richter import proteins


def test_proteins_of_test_cells_are_hidden_and_they_alone_are_scored(cite, monkeypatch):
    monkeypatch.setattr(proteins, "load_all", lambda name: cite)
    adata = proteins.with_proteins("x", 0)
    test = adata.obs["test"].to_numpy()
    assert test.sum() == 18
    assert adata.obsm["protein"][test].isna().all(axis=None)
    assert adata.obsm["protein"][~test].notna().all(axis=None)
    predicted = np.where(test[:, None], adata.obsm["truth"], 0)
    assert proteins.correlate(adata, predicted)["per_feature"] == pytest.approx(1)
    assert proteins.ridge_on(lambda adata: variable_genes(adata)[0])(adata, 0)["per_feature"] > 0.8


def test_totalvi_predicts_from_counts_alone(cite, monkeypatch):
    monkeypatch.setattr(proteins, "load_all", lambda name: cite)
    monkeypatch.setattr(proteins, "QUIET", {"max_epochs": 1, "enable_progress_bar": False, "accelerator": "cpu"})
    with pytest.raises(KeyError, match="totalVI needs counts of proteins in obsm\\['protein_counts'\\]"):
        proteins.totalvi(proteins.with_proteins("x", 0), 0)
    rate = np.exp(2 + cite.obsm.pop("protein_norm"))
    cite.obsm["protein_counts"] = np.random.default_rng(0).poisson(rate).astype(np.float32)
    adata = proteins.with_proteins("x", 0)
    state = np.random.get_state()[1].copy()
    scores = proteins.totalvi(adata, 0)
    assert all(-1 <= score <= 1 for score in scores.values())
    np.testing.assert_array_equal(np.random.get_state()[1], state)
