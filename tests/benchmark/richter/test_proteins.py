import numpy as np
import pytest

from sc_ssl.benchmark.richter import proteins
from sc_ssl.benchmark.richter._cells import variable_genes


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
