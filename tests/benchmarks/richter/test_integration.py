import builtins

import numpy as np
import pytest

from benchmarks.quality.richter import integration


@pytest.fixture
def batches(build_counts, monkeypatch):
    counts = build_counts(120, n_batches=2)
    counts.obs["batch"] = counts.obs.pop("donor")
    with monkeypatch.context() as patched:
        patched.setattr(integration, "load", lambda name: counts)
        patched.setattr(integration, "_scib", lambda: None)
        return integration.cells("x", 0)


def test_cells_without_batches_are_named(build_counts, monkeypatch):
    monkeypatch.setattr(integration, "load", lambda name: build_counts(120))
    monkeypatch.setattr(integration, "_scib", lambda: None)
    with pytest.raises(KeyError, match=r"x should have the cells' batches in obs\['batch'\], but obs has cell_type"):
        integration.cells("x", 0)


def test_without_scib_metrics_the_group_is_named_before_anything_is_read(monkeypatch):
    def refuse(name, *args, **kwargs):
        if name.startswith("scib_metrics"):
            raise ImportError
        return imported(name, *args, **kwargs)

    imported = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match="pip install --group benchmarks"):
        integration.cells("x", 0)


def test_every_row_of_ours_takes_the_batches_and_gets_cells_of_its_own(batches, monkeypatch):
    seen = []
    monkeypatch.setattr(integration, "scib", lambda adata, embedding: {"total": float(embedding.mean())})

    def embed(adata, seed):
        adata.obsm["mine"] = np.full((adata.n_obs, 2), seed)
        seen.append(adata.obs["batch"].nunique())
        return adata.obsm["mine"]

    assert integration.integrated(embed)(batches, 3) == {"total": 3.0}
    assert seen == [2] and "mine" not in batches.obsm


@pytest.mark.slow
def test_types_apart_and_batches_mixed_score_higher_than_batches_apart(batches):
    pytest.importorskip("scib_metrics")
    noise = 0.1 * np.random.default_rng(0).normal(size=(120, 5))
    by_type, by_batch = (np.eye(5)[batches.obs[key].cat.codes] + noise for key in ("cell_type", "batch"))
    good, bad = integration.scib(batches, by_type), integration.scib(batches, by_batch)
    assert good["total"] == pytest.approx(0.6 * good["types kept"] + 0.4 * good["batches mixed"])
    assert good["types kept"] > bad["types kept"] and good["batches mixed"] > bad["batches mixed"]
