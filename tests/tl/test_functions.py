"""What holds for every method that is a function: through ``tl.embed`` and called by its own name."""

import random

import anndata as ad
import numpy as np
import pytest
import torch
from scipy import sparse

from sc_ssl.metrics import clustering
from sc_ssl.tl import embed, nmf_transfer, pca_cosine

FUNCTIONS = {"nmf": nmf_transfer, "pca_cosine": pca_cosine}
every_function = pytest.mark.parametrize("method", list(FUNCTIONS))


def run(adata, method, **options):
    FUNCTIONS[method](adata, **options)
    return adata.obsm[options.get("key_added") or f"X_{method}"]


@every_function
def test_cells_have_length_one_and_types_lie_apart(counts, method):
    z = run(counts, method)
    assert z.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, rtol=1e-5)
    assert clustering(z, counts.obs["cell_type"])["ari"] > 0.9


@every_function
def test_embed_calls_it_with_its_defaults_or_what_is_given(counts, method):
    embed(counts, method, input="counts "[:-1], accelerator="cpu")
    np.testing.assert_array_equal(counts.obsm[f"X_{method}"], run(counts, method, key_added="own"))
    assert counts.uns[method]["params"]["method"] == method
    number = {"nmf": "n_components", "pca_cosine": "n_comps"}[method]
    embed(counts, method, key_added="few", n_top_genes=40, **{number: 4})
    assert counts.obsm["few"].shape == (120, 4)
    assert len(counts.uns["few"]["genes"]["names"]) == 40
    assert counts.uns["few"]["params"][number] == 4


@every_function
@pytest.mark.parametrize("option", [{"save_model": "folder"}, {"n_hidden": 3}], ids=str)
def test_embed_refuses_what_it_has_no_argument_for(counts, method, option):
    with pytest.raises(
        TypeError, match=f"method='{method}' has no argument {next(iter(option))}; it has .*n_top_genes"
    ):
        embed(counts, method, **option)
    assert not counts.obsm and not counts.uns


@every_function
def test_only_the_result_is_written_and_a_copy_is_returned(counts, method):
    before = counts.copy()
    copied = FUNCTIONS[method](counts, copy=True)
    assert not counts.obsm and not counts.uns
    assert (list(copied.obsm), list(copied.uns)) == ([f"X_{method}"], [method])
    assert (copied.X != before.X).nnz == 0
    assert copied.obs.equals(before.obs) and copied.var.equals(before.var)
    assert list(copied.varm) == (["nmf_programs"] if method == "nmf" else [])
    assert not copied.layers and not copied.obsp
    assert FUNCTIONS[method](counts) is None


@every_function
def test_results_repeat_and_the_callers_random_state_is_untouched(counts, method):
    first = run(counts, method)
    before = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    np.testing.assert_array_equal(run(counts, method), first)
    assert random.getstate() == before[0]
    np.testing.assert_array_equal(np.random.get_state()[1], before[1][1])
    assert np.random.get_state()[2:] == before[1][2:]
    assert torch.equal(torch.random.get_rng_state(), before[2])


@every_function
@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_results_survive_writing(counts, tmp_path, method, form):
    options = {"source": counts.copy(), "labels_key": "cell_type"} if method == "nmf" else {"batch_key": "donor"}
    z = run(counts, method, random_state=np.random.default_rng(0), **options)
    getattr(counts, f"write_{form}")(tmp_path / f"cells.{form}")
    found = getattr(ad, f"read_{form}")(tmp_path / f"cells.{form}")
    np.testing.assert_array_equal(found.obsm[f"X_{method}"], z)
    assert found.uns[method].keys() == counts.uns[method].keys()
    assert found.uns[method]["versions"]["scikit-learn"]
    assert len(found.uns[method]["genes"]["hash"]) == 64


STORAGES = {"csc": sparse.csc_matrix, "csr_array": sparse.csr_array, "dense": lambda x: x.toarray()}


@every_function
@pytest.mark.parametrize("storage", [*STORAGES, "layer", "backed"])
def test_every_storage_gives_the_same_result(counts, tmp_path, method, storage):
    expected = run(counts.copy(), method)
    if storage == "layer":
        counts.layers["counts"] = counts.X.copy()
        counts.X = counts.X.log1p()
    elif storage == "backed":
        counts.write_h5ad(tmp_path / "cells.h5ad")
        counts = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    else:
        counts.X = STORAGES[storage](counts.X)
    np.testing.assert_array_equal(run(counts, method), expected)


@every_function
def test_few_cells_and_empty_ones_are_embedded(counts, method):
    few = counts[:10].copy()
    x = few.X.toarray()
    x[3] = 0
    few.X = sparse.csr_matrix(x)
    z = run(few, method)
    assert z.shape[0] == 10 and z.shape[1] < 11
    assert np.isfinite(z).all()
    with pytest.raises(ValueError, match="at least 10 cells are needed, found 9"):
        run(counts[:9].copy(), method)


@every_function
def test_bad_counts_are_refused_and_nothing_is_written(counts, method):
    counts.X = counts.X.log1p()
    with pytest.raises(ValueError, match=r"X must hold raw counts .* found log-normalised"):
        run(counts, method)
    with pytest.raises(KeyError, match="layer 'umis' is not in adata.layers"):
        run(counts, method, layer="umis")
    assert not counts.obsm and not counts.uns


@every_function
def test_it_is_called_as_methods_that_train_are(build_counts, method):
    cells = build_counts(200, 96, n_batches=2)
    in_batch = cells.obs["donor"].cat.codes.to_numpy() == 1
    counts = cells.X.toarray()
    counts[np.ix_(in_batch, np.arange(0, 96, 2))] *= 3  # a factor on half of the genes of one batch
    cells.X = sparse.csr_matrix(counts)
    options = {"n_latent": 10, "max_epochs": 3, "accelerator": "cpu", "train_kwargs": {"batch_size": 40}}
    embed(cells, method, key_added="apart", **options)
    embed(cells, method, key_added="mixed", batch_key="donor", **options)
    assert cells.obsm["mixed"].shape == (200, 10)

    def distance(z):
        return np.linalg.norm(z[in_batch].mean(axis=0) - z[~in_batch].mean(axis=0))

    assert distance(cells.obsm["mixed"]) < 0.5 * distance(cells.obsm["apart"])
    assert clustering(cells.obsm["mixed"], cells.obs["cell_type"])["ari"] > 0.9
    cells.X = cells.X.log1p()
    embed(cells, method, input="log1p", batch_key="donor", **options)
    assert clustering(cells.obsm[f"X_{method}"], cells.obs["cell_type"])["ari"] > 0.9
