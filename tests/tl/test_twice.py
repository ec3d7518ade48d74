"""Running a cell of a notebook twice: a tool overwrites what it wrote itself, and refuses what others wrote."""

from functools import partial

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from sc_ssl.models import ContrastiveSC
from sc_ssl.tl import annotate, cluster, embed, nmf_transfer, pca_cosine, predict_modality

QUICK = {"max_epochs": 1, "accelerator": "cpu", "train_kwargs": {"enable_progress_bar": False, "batch_size": 40}}


def _cluster(cells, **options):
    cells.obsm["X_given"] = np.asarray(cells.X[:, :5].toarray())
    cluster(cells, "X_given", n_clusters=3, **options)


def _annotate(cells, **options):
    annotate(cells, cells.copy(), "cell_type", method="knn", **QUICK, **{"key_added": "found"} | options)


def _proteins(cells, **options):
    cells.obsm["protein"] = np.asarray(cells.X[:, :3].toarray())
    predict_modality(cells, encoder=None, **QUICK, **options)


TOOLS = {
    "embed": (partial(embed, method="contrastive_sc", **QUICK), "obsm", "X_contrastive_sc"),
    "embed and cluster": (
        partial(embed, method="scdeepcluster", n_clusters=3, **QUICK),
        "obs",
        "scdeepcluster_cluster",
    ),
    "nmf": (nmf_transfer, "obsm", "X_nmf"),
    "pca_cosine": (pca_cosine, "obsm", "X_pca_cosine"),
    "cluster": (_cluster, "obs", "given_cluster"),
    "annotate": (_annotate, "obs", "found"),
    "predict_modality": (_proteins, "obsm", "protein_predicted"),
}


@pytest.fixture(params=TOOLS)
def tool(request):
    return TOOLS[request.param]


def test_a_tool_overwrites_what_it_wrote_also_after_reading(tool, counts, tmp_path, caplog):
    run, where, key = tool
    run(counts)
    assert caplog.messages[-1].startswith("added `") and f"`{where}[{key!r}]` (" in caplog.messages[-1]
    first = getattr(counts, where)[key]
    counts.write_h5ad(tmp_path / "cells.h5ad")
    for cells in (counts, ad.read_h5ad(tmp_path / "cells.h5ad")):
        run(cells)
        again = getattr(cells, where)[key]
        assert np.array_equal(np.asarray(again, dtype=str), np.asarray(first, dtype=str))


def test_a_tool_refuses_what_others_wrote_before_any_work(tool, counts):
    run, where, key = tool
    theirs = pd.Series("mine", index=counts.obs_names) if where == "obs" else np.ones((counts.n_obs, 2))
    getattr(counts, where)[key] = theirs
    with pytest.raises(
        ValueError, match=rf"{where}\['{key}'\] is there already, and sc_ssl has not written it; .*key_added"
    ):
        run(counts)
    assert np.array_equal(getattr(counts, where)[key], theirs)
    assert not counts.uns


def test_the_same_call_replaces_the_model_that_it_saved_and_another_call_does_not(build_counts, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    run = partial(embed, method="contrastive_sc", save_model=folder, n_latent=8, **QUICK)
    for _ in range(2):
        cells = build_counts()
        run(cells)
    again = build_counts()
    embed(again, folder)
    np.testing.assert_allclose(again.obsm["X_contrastive_sc"], cells.obsm["X_contrastive_sc"], atol=1e-5)
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]
    with pytest.raises(FileExistsError, match="exists already; if a model is in it, method="):
        run(cells, n_latent=4)
    monkeypatch.setattr(ContrastiveSC, "train", raise_interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(cells)  # the earlier model stays
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]


def raise_interrupt(*_, **__):
    raise KeyboardInterrupt


def test_a_result_of_scanpy_is_not_overwritten(counts):
    counts.uns["neighbors"] = {"params": {"n_neighbors": 15}}
    with pytest.raises(ValueError, match=r"uns\['neighbors'\] is there already"):
        pca_cosine(counts, key_added="neighbors")
    assert counts.uns["neighbors"] == {"params": {"n_neighbors": 15}} and not counts.obsm
