"""From raw counts to an embedding in one call: what is written, and that it can be repeated."""

import json
import random
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
import torch
from embedding import QUICK, SMALL, assert_same, run, snapshot
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

import sc_ssl
from sc_ssl import models
from sc_ssl.tl import embed
from sc_ssl.tl._record import storable

# what is written


@pytest.mark.parametrize("method", list(SMALL))
def test_only_obsm_and_uns_are_written(counts, method):
    counts.layers["counts"] = counts.X.copy()
    before = snapshot(counts)
    assert run(counts, method) is not None
    assert_same(counts, before, added_obsm=[f"X_{method}"], added_uns=[method])
    assert not [key for key in (*counts.uns, *counts.obs, *counts.obsm) if key.startswith("_scvi")]


@pytest.mark.parametrize("method", list(SMALL))
def test_embedding_is_float32_with_a_row_a_cell(embedded, method):
    z = embedded.obsm[f"X_{method}"]
    assert z.dtype == np.float32
    assert len(z) == embedded.n_obs
    assert np.isfinite(z).all()


def test_key_added_names_both_results(counts):
    before = snapshot(counts)
    run(counts, key_added="mine")
    assert_same(counts, before, added_obsm=["mine"], added_uns=["mine"])


def test_copy_is_returned_and_the_original_left_alone(counts, embedded):
    before = snapshot(counts)
    copied = embed(counts, "contrastive_sc", copy=True, **QUICK, **SMALL["contrastive_sc"])
    assert_same(counts, before)
    np.testing.assert_array_equal(copied.obsm["X_contrastive_sc"], embedded.obsm["X_contrastive_sc"])


def test_without_copy_nothing_is_returned(counts):
    assert embed(counts, "contrastive_sc", **QUICK, **SMALL["contrastive_sc"]) is None


@pytest.mark.parametrize("method", list(SMALL))
def test_record_says_what_was_done(embedded, method):
    record = embedded.uns[method]
    assert record["params"]["method"] == method
    assert record["params"]["counts_from"] == "X"
    assert record["params"]["random_state"] == 0
    assert record["params"]["model_kwargs"].keys() == SMALL[method].keys()
    assert record["versions"]["sc_ssl"] == sc_ssl.__version__
    assert set(record["genes"]["names"]) == set(embedded.var_names)
    assert len(record["genes"]["hash"]) == 64
    assert len(record["history"]["train_loss"]) == 2
    assert record["seconds"] > 0


@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_results_survive_writing(embedded, tmp_path, form):
    path = tmp_path / f"cells.{form}"
    getattr(embedded, f"write_{form}")(path)
    found = getattr(ad, f"read_{form}")(path)
    for method in SMALL:
        np.testing.assert_array_equal(found.obsm[f"X_{method}"], embedded.obsm[f"X_{method}"])
        record, expected = found.uns[method], embedded.uns[method]
        assert list(record["genes"]["names"]) == list(expected["genes"]["names"])
        np.testing.assert_array_equal(record["history"]["train_loss"], expected["history"]["train_loss"])
        assert record["params"]["method"] == method
        assert record["params"].keys() == expected["params"].keys()


def test_results_with_unusual_options_survive_writing(counts, tmp_path):
    options = QUICK["train_kwargs"] | {"callbacks": [torch.nn.Identity()][:0], "plan_kwargs": {"betas": (0.9, 0.95)}}
    generator = np.random.default_rng(3)
    run(counts, train_kwargs=options, random_state=generator, save_model=tmp_path / "model", batch_key="donor")
    counts.write_h5ad(tmp_path / "cells.h5ad")
    assert ad.read_h5ad(tmp_path / "cells.h5ad").uns["contrastive_sc"]["params"]["batch_key"] == "donor"


@pytest.mark.parametrize("form", ["h5ad", "zarr"])
@pytest.mark.parametrize("value", [[{"a": 1}, {"b": [2]}], [[1, 2], [3]]])
def test_nested_lists_survive_writing(counts, tmp_path, form, value):
    counts.uns["done"] = storable({"nested": value, "missing": None})
    path = tmp_path / f"cells.{form}"
    getattr(counts, f"write_{form}")(path)
    back = getattr(ad, f"read_{form}")(path)
    assert back.uns["done"].keys() == {"nested"}
    assert json.loads(back.uns["done"]["nested"]) == value


def test_scanpy_goes_on_from_the_result(embedded):
    adata = embedded.copy()
    sc.pp.neighbors(adata, use_rep="X_masksc")
    sc.tl.leiden(adata, flavor="igraph", n_iterations=2, directed=False)
    assert adata.obs["leiden"].notna().all()


# randomness


@pytest.mark.parametrize("method", list(SMALL))
def test_same_random_state_is_bit_identical(counts, embedded, method):
    torch.manual_seed(99)
    np.testing.assert_array_equal(run(counts, method), embedded.obsm[f"X_{method}"])


def test_another_random_state_differs(counts, embedded):
    assert not np.allclose(run(counts, random_state=1), embedded.obsm["X_contrastive_sc"])


def test_a_generator_is_drawn_from(counts):
    generator = np.random.default_rng(0)
    first, second = run(counts, random_state=generator), run(counts, random_state=generator)
    assert not np.allclose(first, second)
    np.testing.assert_array_equal(run(counts, random_state=np.random.default_rng(0)), first)


def test_random_state_none_follows_the_callers_state(counts):
    torch.manual_seed(5)
    first, second = run(counts, random_state=None), run(counts, random_state=None)
    torch.manual_seed(5)
    np.testing.assert_array_equal(run(counts, random_state=None), first)
    assert not np.allclose(first, second)


@pytest.mark.parametrize("fails", [False, True])
def test_the_callers_random_state_is_untouched(counts, fails):
    before = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    if fails:
        with pytest.raises(TypeError):
            run(counts, wrong=1)
    else:
        run(counts, "masksc")
    assert random.getstate() == before[0]
    np.testing.assert_array_equal(np.random.get_state()[1], before[1][1])
    assert np.random.get_state()[2:] == before[1][2:]
    assert torch.equal(torch.random.get_rng_state(), before[2])


# a real run


def test_types_of_real_cells_are_found():
    adata = sc_ssl.datasets.pbmc68k_reduced()
    embed(adata, max_epochs=20, random_state=2, accelerator="cpu", train_kwargs={"enable_progress_bar": False})
    labels = adata.obs["bulk_labels"]
    clusters = KMeans(labels.nunique(), n_init=5, random_state=0).fit_predict(adata.obsm["X_masksc"])
    assert adjusted_rand_score(labels, clusters) > 0.3


def test_saved_folder_is_where_it_was_asked_for(folder):
    assert isinstance(folder, Path)
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]


def test_new_cells_bring_the_batch_under_another_name(build_counts):
    counts = build_counts(n_batches=2)
    model = trained_with_batch(counts)
    query = build_counts(n_batches=2, seed=1)
    query.obs["site"] = query.obs.pop("donor")
    with pytest.raises(KeyError, match="'donor' is not in adata.obs"):
        embed(query, model)
    embed(query, model, batch_key="site")
    assert np.isfinite(query.obsm["X_contrastive_sc"]).all()
    with pytest.raises(ValueError, match="trained without batches; leave out batch_key"):
        embed(query, trained_with_batch(counts, None), batch_key="site")


def trained_with_batch(counts, batch_key="donor"):
    models.ContrastiveSC.setup_anndata(counts, batch_key=batch_key)
    model = models.ContrastiveSC(counts)
    model.train(1, enable_progress_bar=False, accelerator="cpu")
    return model
