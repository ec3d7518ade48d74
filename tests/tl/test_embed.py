"""From raw counts to an embedding in one call: what is written, what is left alone, what is refused."""

import importlib
import json
import random
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
import torch
from lightning.pytorch import Callback
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

import sc_ssl
from sc_ssl import models
from sc_ssl.tl import embed
from sc_ssl.tl._record import storable

QUICK = {"max_epochs": 2, "accelerator": "cpu", "train_kwargs": {"enable_progress_bar": False, "batch_size": 40}}
SMALL = {
    "contrastive_sc": {"n_hidden": [32], "n_latent": 8},
    "masksc": {"n_hidden": 16, "n_layers": 1, "n_heads": 2, "n_latent": 8},
}


def run(adata, method="contrastive_sc", **options):
    """Embed quickly; the embedding, where the keys are the usual ones."""
    embed(adata, method, **QUICK | SMALL.get(method, {}) | options)
    return adata.obsm.get(f"X_{method}")


def snapshot(adata):
    """All that must not change, as plain values."""
    return {
        "X": adata.X.toarray().copy(),
        "layers": {name: layer.toarray().copy() for name, layer in adata.layers.items()},
        "obs": adata.obs.copy(),
        "var": adata.var.copy(),
        "uns": set(adata.uns),
        "obsm": set(adata.obsm),
        "varm": set(adata.varm),
        "obsp": set(adata.obsp),
    }


def assert_same(found, before, *, added_obsm=(), added_uns=()):
    after = snapshot(found)
    np.testing.assert_array_equal(after["X"], before["X"])
    assert after["layers"].keys() == before["layers"].keys()
    for name, layer in after["layers"].items():
        np.testing.assert_array_equal(layer, before["layers"][name])
    assert after["obs"].equals(before["obs"])
    assert after["var"].equals(before["var"])
    assert after["obsm"] == before["obsm"] | set(added_obsm)
    assert after["uns"] == before["uns"] | set(added_uns)
    assert (after["varm"], after["obsp"]) == (before["varm"], before["obsp"])


@pytest.fixture(scope="module")
def embedded(build_counts):
    """Cells with both methods' results; not to be changed."""
    counts = build_counts()
    for method in SMALL:
        run(counts, method)
    return counts


@pytest.fixture(scope="module")
def folder(build_counts, tmp_path_factory):
    """The saved model of ``embedded``'s contrastive_sc."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    run(build_counts(), save_model=folder)
    return folder


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


class InterruptOnce(Callback):
    """Ctrl-C in the second epoch of the first fit."""

    def __init__(self):
        self.done = False

    def on_train_epoch_start(self, trainer, plan):
        if trainer.current_epoch == 1 and not self.done:
            self.done = True
            raise KeyboardInterrupt


@pytest.mark.parametrize("method", list(SMALL))
def test_an_interrupted_call_is_finished_by_the_same_call(build_counts, embedded, tmp_path, method):
    counts, folder = build_counts(), tmp_path / "model"
    train_kwargs = QUICK["train_kwargs"] | {"callbacks": [InterruptOnce()]}
    options = {"save_model": folder, "train_kwargs": train_kwargs}
    before = snapshot(counts)
    with pytest.raises(KeyboardInterrupt):
        run(counts, method, **options)
    assert_same(counts, before)
    with pytest.raises(ValueError, match=r"unfinished training that differs in n_latent; repeat the call"):
        run(counts, method, **options, n_latent=7)
    with pytest.raises(ValueError, match=r"unfinished training that differs in the genes; repeat the call"):
        run(counts, method, **options, n_top_genes=60)
    with pytest.raises(ValueError, match="use .*load"):
        other = next(name for name in SMALL if name != method)
        run(counts, other, **options)
    np.testing.assert_array_equal(run(counts, method, **options), embedded.obsm[f"X_{method}"])
    run(counts, folder, key_added="loaded")
    np.testing.assert_array_equal(counts.obsm["loaded"], embedded.obsm[f"X_{method}"])
    with pytest.raises(FileExistsError):
        run(counts, method, **options)


class Wider(models.ContrastiveSC):
    """A method of somebody's own, not known to the package."""


def test_a_subclass_is_recorded_as_the_method_that_it_extends(build_counts):
    counts = build_counts()
    Wider.setup_anndata(counts)
    model = Wider(counts, **SMALL["contrastive_sc"])
    model.train(2, batch_size=40, enable_progress_bar=False, accelerator="cpu")
    embed(counts, model)
    assert counts.uns["contrastive_sc"]["params"]["method"] == "contrastive_sc"
    np.testing.assert_array_equal(counts.obsm["X_contrastive_sc"], model.get_latent_representation())


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


# a trained model


def test_folder_of_a_saved_model_reproduces_the_embedding(counts, embedded, folder):
    embed(counts, folder)
    np.testing.assert_allclose(counts.obsm["X_contrastive_sc"], embedded.obsm["X_contrastive_sc"], atol=1e-5)
    assert counts.uns["contrastive_sc"]["params"]["method"] == "contrastive_sc"


def test_folder_may_be_text(counts, embedded, folder):
    embed(counts, str(folder), key_added="mine")
    np.testing.assert_allclose(counts.obsm["mine"], embedded.obsm["X_contrastive_sc"], atol=1e-5)


def test_trained_model_reproduces_the_embedding(counts, embedded, folder):
    before = snapshot(counts)
    embed(counts, models.load(folder))
    np.testing.assert_allclose(counts.obsm["X_contrastive_sc"], embedded.obsm["X_contrastive_sc"], atol=1e-5)
    assert_same(counts, before, added_obsm=["X_contrastive_sc"], added_uns=["contrastive_sc"])
    params = counts.uns["contrastive_sc"]["params"]
    assert not {"max_epochs", "n_top_genes", "train_kwargs"} & params.keys()


@pytest.mark.parametrize("method", list(SMALL))
def test_trained_model_with_batches_and_fewer_genes_reproduces_the_embedding(build_counts, tmp_path, method):
    """The library size is that of all genes, at training and later alike."""
    counts = build_counts(n_batches=2)
    z = run(counts, method, batch_key="donor", n_top_genes=64, save_model=tmp_path / "model")
    query = counts[40:, ::-1].copy()
    embed(query, tmp_path / "model", batch_key="donor")
    np.testing.assert_allclose(query.obsm[f"X_{method}"], z[40:], atol=1e-5)


def test_model_trained_by_hand_embeds_other_names_of_layers_and_keys(build_counts):
    counts = build_counts(n_batches=2)
    counts.layers["umis"] = counts.X.copy()
    models.ContrastiveSC.setup_anndata(counts, layer="umis", batch_key="donor")
    model = models.ContrastiveSC(counts, **SMALL["contrastive_sc"])
    model.train(2, batch_size=40, enable_progress_bar=False, accelerator="cpu")
    query = build_counts(n_batches=2)
    query.obs["site"] = query.obs.pop("donor")
    embed(query, model, batch_key="site", key_added="z")
    np.testing.assert_allclose(query.obsm["z"], model.get_latent_representation(), atol=1e-5)


def test_one_cell_is_enough_for_a_trained_model(counts, embedded, folder):
    one = counts[:1].copy()
    embed(one, folder)
    np.testing.assert_allclose(one.obsm["X_contrastive_sc"], embedded.obsm["X_contrastive_sc"][:1], atol=1e-5)


def test_untrained_model_is_refused(counts):
    models.ContrastiveSC.setup_anndata(counts)
    with pytest.raises(RuntimeError, match="train the model first"):
        embed(counts, models.ContrastiveSC(counts, **SMALL["contrastive_sc"]))


def test_genes_of_another_kind_are_refused(counts, folder):
    counts.var_names = [f"ENSG{i}" for i in range(counts.n_vars)]
    with pytest.raises(ValueError, match="needs 50% of its 96 genes, found 0 .* names such as 'ENSG0'"):
        embed(counts, folder)


def test_a_trained_model_takes_no_constructor_arguments(counts, folder):
    with pytest.raises(TypeError, match="no constructor arguments, found n_latent"):
        embed(counts, folder, n_latent=3)


def test_folder_that_exists_is_refused_before_training(counts, tmp_path, monkeypatch):
    monkeypatch.setattr(models.ContrastiveSC, "train", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(FileExistsError, match="exists already; choose another folder"):
        run(counts, save_model=tmp_path)


# which matrix


def test_layer_counts_is_preferred(counts, embedded):
    counts.layers["counts"] = counts.X.copy()
    counts.X = np.log1p(counts.X)
    np.testing.assert_array_equal(run(counts), embedded.obsm["X_contrastive_sc"])
    assert counts.uns["contrastive_sc"]["params"]["counts_from"] == "layers['counts']"


def test_layer_can_be_named(counts, embedded):
    counts.layers["umis"] = counts.X.copy()
    counts.layers["counts"] = counts.X * 0
    np.testing.assert_array_equal(run(counts, layer="umis"), embedded.obsm["X_contrastive_sc"])


def test_raw_is_never_used(counts):
    counts.raw = counts.copy()
    counts.X = np.log1p(counts.X / 3)
    with pytest.raises(ValueError, match="X must hold raw counts"):
        run(counts)


def test_empty_x_with_a_layer_works(counts, embedded):
    bare = ad.AnnData(obs=counts.obs, var=counts.var, layers={"counts": counts.X})
    np.testing.assert_array_equal(run(bare), embedded.obsm["X_contrastive_sc"])


def test_log1p_is_refused_with_the_remedy_and_accepted_when_said(counts):
    sc.pp.normalize_total(counts)
    sc.pp.log1p(counts)
    with pytest.raises(ValueError, match=r"put the raw counts in adata.layers\['counts'\] .* input='log1p'"):
        run(counts)
    assert np.isfinite(run(counts, input="log1p")).all()


def test_backed_cells_stay_on_disk_and_get_the_same_embedding(counts, embedded, tmp_path):
    counts.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    np.testing.assert_array_equal(run(backed), embedded.obsm["X_contrastive_sc"])
    assert backed.isbacked
    assert not embed(backed, "contrastive_sc", copy=True, **QUICK, **SMALL["contrastive_sc"]).isbacked
    backed.file.close()


def test_a_view_becomes_a_copy_and_its_parent_is_left_alone(build_counts, embedded):
    parent = ad.concat([build_counts(), build_counts(seed=1)], index_unique="-")
    before = snapshot(parent)
    with pytest.warns(UserWarning, match="view"):
        found = run(parent[:120])
    np.testing.assert_array_equal(found, embedded.obsm["X_contrastive_sc"])
    assert_same(parent, before)


# batches, genes and cells that are odd


def test_batches_are_taken_into_account(build_counts, embedded):
    counts = build_counts(n_batches=2)
    z = run(counts, batch_key="donor")
    assert np.isfinite(z).all()
    assert not np.allclose(z, embedded.obsm["X_contrastive_sc"])


def test_unknown_batch_key_is_refused(counts):
    with pytest.raises(KeyError, match="'site' is not in adata.obs, which has cell_type, donor"):
        run(counts, batch_key="site")


def test_only_the_most_variable_genes_are_used(counts):
    run(counts, n_top_genes=40)
    expected = sc_ssl.pp.select_genes(counts, 40)
    assert list(counts.uns["contrastive_sc"]["genes"]["names"]) == list(expected)


@pytest.mark.parametrize("method", list(SMALL))
def test_empty_cells_and_genes_are_handled_and_reported(counts, caplog, method):
    x = counts.X.toarray()
    x[[3, 50]] = 0
    x[:, [0, 10]] = 0
    counts.X = sparse.csr_matrix(x)
    logger = importlib.import_module("sc_ssl._logging").logger
    logger.addHandler(caplog.handler)
    z = run(counts, method)
    logger.removeHandler(caplog.handler)
    assert np.isfinite(z).all()
    assert any("2 cells have no counts" in record.getMessage() for record in caplog.records)
    assert {"gene_0", "gene_10"}.isdisjoint(counts.uns[method]["genes"]["names"])


@pytest.mark.parametrize("n_cells", [0, 1, 9])
def test_too_few_cells_are_refused(counts, n_cells):
    with pytest.raises(ValueError, match=f"at least 10 cells are needed, found {n_cells}"):
        run(counts[:n_cells].copy())


@pytest.mark.parametrize("method", list(SMALL))
def test_ten_cells_are_enough(counts, method):
    few = counts[:10].copy()
    assert np.isfinite(run(few, method)).all()


def test_no_genes_and_no_counts_are_refused(counts):
    with pytest.raises(ValueError, match="at least one gene"):
        run(counts[:, :0].copy())
    counts.X = counts.X * 0
    with pytest.raises(ValueError, match="X holds no count at all"):
        run(counts)


# mistakes


def test_unknown_method_lists_the_methods(counts):
    with pytest.raises(
        ValueError, match="'masksc', 'contrastive_sc', .*'pca_cosine', a trained model, or the folder .* 'mask_sc'"
    ):
        embed(counts, "mask_sc", n_latent=3)


@pytest.mark.parametrize("method", [None, 3, np.zeros(2), ["masksc"]], ids=["None", "int", "array", "list"])
def test_a_method_that_is_none_is_refused(counts, method):
    with pytest.raises((ValueError, TypeError), match="method is one of"):
        embed(counts, method)


def test_what_is_no_anndata_is_refused(counts):
    with pytest.raises(TypeError, match="expected an AnnData, found csr_matrix"):
        embed(counts.X)


def test_unknown_model_argument_is_refused(counts):
    with pytest.raises(TypeError, match="wrong"):
        run(counts, wrong=1)


def test_negative_and_nan_values_are_refused_by_name(counts):
    layer = counts.X.copy()
    layer[5, layer[5].indices[0]] = np.nan
    counts.layers["counts"] = layer
    with pytest.raises(ValueError, match=r"layers\['counts'\].*"):
        run(counts)


def broken(*_, **__):
    raise RuntimeError("no luck")


@pytest.mark.parametrize("verb", ["setup_anndata", "train", "get_latent_representation", "save"])
def test_an_error_on_the_way_leaves_the_cells_unchanged(counts, monkeypatch, tmp_path, verb):
    before = snapshot(counts)
    monkeypatch.setattr(models.ContrastiveSC, verb, broken)
    with pytest.raises(RuntimeError, match="no luck"):
        run(counts, save_model=tmp_path / "model")
    assert_same(counts, before)


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
