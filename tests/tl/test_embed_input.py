"""Where tl.embed finds counts, what it makes of odd ones, and what it refuses."""

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from embedding import QUICK, SMALL, assert_same, run, snapshot
from scipy import sparse

import sc_ssl
from sc_ssl import models
from sc_ssl.tl import embed

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


def test_a_batch_of_one_cell_is_named(counts):
    counts.obs["donor"] = ["a"] * 119 + ["b"]
    with pytest.raises(ValueError, match=r"each batch in obs\['donor'\] must have two cells .* one cell in 'b'"):
        run(counts, batch_key="donor")


def test_a_batch_of_cells_that_are_all_alike_is_named(counts):
    x = counts.X.toarray()
    x[60:] = x[60]
    counts.X = sparse.csr_matrix(x)
    counts.obs["donor"] = ["a"] * 60 + ["b"] * 60
    with pytest.raises(ValueError, match=r"varies between cells in batch 'b' of obs\['donor'\]: all 60"):
        run(counts, batch_key="donor")


def test_unknown_batch_key_is_refused(counts):
    with pytest.raises(KeyError, match="'site' is not in adata.obs, which has cell_type, donor"):
        run(counts, batch_key="site")


def test_only_the_most_variable_genes_are_used(counts):
    run(counts, n_top_genes=40)
    expected = sc_ssl.pp.select_genes(counts, 40)
    assert list(counts.uns["contrastive_sc"]["genes"]["names"]) == list(expected)


@pytest.mark.parametrize("method", list(SMALL))
def test_empty_cells_and_genes_are_handled_and_reported(counts, logged, method):
    x = counts.X.toarray()
    x[[3, 50]] = 0
    x[:, [0, 10]] = 0
    counts.X = sparse.csr_matrix(x)
    z = run(counts, method)
    assert np.isfinite(z).all()
    assert "2 cells have no counts" in logged()
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


def test_cells_that_are_all_alike_are_refused(counts):
    counts.X = sparse.csr_matrix(np.tile(counts.X[0].toarray(), (120, 1)))
    with pytest.raises(ValueError, match="no gene in X varies between cells: all 120 with counts are alike"):
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
