"""What every embedding model promises of other cells than its own, and what it refuses."""

import copy

import anndata as ad
import numpy as np
import pytest
import torch
from small_models import QUICK, assert_unchanged, fit

# other cells


def test_permuted_genes_give_the_same_embedding(trained, embedding, cells):
    order = np.random.default_rng(0).permutation(cells.n_vars)
    np.testing.assert_allclose(trained.get_latent_representation(cells[:, order].copy()), embedding, atol=1e-5)


def test_extra_genes_are_ignored(trained, embedding, cells):
    extra = cells[:, ::-1].copy()
    extra.var_names = [f"other_{i}" for i in range(extra.n_vars)]
    both = ad.concat([extra, cells], axis=1)
    np.testing.assert_allclose(trained.get_latent_representation(both), embedding, atol=1e-5)


def test_missing_genes_are_named_and_take_their_mean(trained, cells, warnings_logged):
    found = trained.get_latent_representation(cells[:, 10:].copy())
    assert np.isfinite(found).all()
    assert any("10 of the model's 96 genes are missing" in line and "gene_0" in line for line in warnings_logged())


def test_too_few_genes_are_refused_with_examples(trained, cells):
    with pytest.raises(ValueError, match=r"needs 50% of its 96 genes, found 40 .* 'gene_40', 'gene_41'"):
        trained.get_latent_representation(cells[:, :40].copy())


def test_a_remedy_is_named_for_names_of_another_kind_or_species(trained, cells):
    """The model's own genes are of no species here, so that only their kind can be distinguished."""
    other = cells.copy()
    other.var_names = [f"ENSG{i:011}" for i in range(96)]
    with pytest.raises(ValueError, match="genes are named by symbols, those of the data by Ensembl ids"):
        trained.get_latent_representation(other)


def test_load_query_leaves_source_and_cells_unchanged(model_class, trained, embedding, cells):
    query = cells[:50, ::-1].copy()
    before, weights = query.copy(), copy.deepcopy(trained.module.state_dict())
    model = model_class.load_query(trained, query)
    np.testing.assert_allclose(model.get_latent_representation(), embedding[:50], atol=1e-5)
    model.train(1, **QUICK)
    assert_unchanged(query, before)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in trained.module.state_dict().items())
    assert len(trained.history["train_loss"]) == 2


def test_load_query_from_a_folder(model_class, folder, embedding, cells):
    model = model_class.load_query(folder, cells[:50].copy())
    np.testing.assert_allclose(model.get_latent_representation(), embedding[:50], atol=1e-5)


def test_load_query_asks_for_enough_genes(model_class, trained, cells):
    with pytest.raises(ValueError, match="needs 90% of its 96 genes"):
        model_class.load_query(trained, cells[:, :80].copy(), min_coverage=0.9)


def test_batches_and_library_sizes_train(model_class, build_counts, warnings_logged):
    counts = build_counts(n_batches=2)
    counts.obs["library"] = np.asarray(counts.X.sum(axis=1)).ravel()
    model = fit(model_class, counts, setup={"batch_key": "donor", "library_size_key": "library"})
    query = counts[:9].copy()
    query.obs["donor"] = "donor_new"
    assert np.isfinite(model.get_latent_representation(query)).all()
    assert any("1 batches are new" in line and "donor_new" in line for line in warnings_logged())


# what is refused


def duplicate_name(counts):
    counts.var_names = ["gene_1", *counts.var_names[1:]]


def put(value):
    def change(counts):
        counts.X[7, counts.X[7].indices[0]] = value

    return change


def take_logs(counts):
    counts.X = np.log1p(counts.X / 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (duplicate_name, r"unique, found 1 more than once, for example 'gene_1'; call adata.var_names_make_unique\(\)"),
        (put(np.nan), r"X must hold|finite"),
        (put(-1), "raw counts"),
        (put(np.inf), "finite"),
        (take_logs, "found log-normalised values .* put the raw counts in adata.layers.* input='log1p'"),
    ],
    ids=["duplicated names", "NaN", "negative", "infinite", "log1p"],
)
def test_unusable_data_are_refused_with_the_remedy(model_class, counts, change, message):
    change(counts)
    with pytest.raises(ValueError, match=message):
        model_class.setup_anndata(counts)


@pytest.mark.parametrize("name", ["layer", "batch_key"])
def test_unknown_keys_are_refused(model_class, counts, name):
    with pytest.raises(KeyError, match="nowhere"):
        model_class.setup_anndata(counts, **{name: "nowhere"})


# what a user sees of a model


def test_a_model_describes_itself(model_class, trained, capsys):
    text = repr(trained)
    assert text.startswith(f"{model_class.__name__}(")
    for part in ("cells: 120, read as counts", "genes: 96 ('gene_0', 'gene_1', 'gene_2', …)", "parameters: ", "loss "):
        assert part in text
    assert f"training: {len(trained.history['train_loss'])} epochs" in text
    assert max(map(len, text.splitlines())) < 500
    assert capsys.readouterr().out == ""


def test_methods_of_scvi_tools_that_make_no_sense_are_not_offered(trained):
    for name in ("get_normalized_expression", "differential_abundance", "load_registry"):
        assert not hasattr(trained, name) and name not in dir(trained)
    with pytest.raises(AttributeError, match="has no get_normalized_expression: it is no probabilistic model"):
        trained.get_normalized_expression()
