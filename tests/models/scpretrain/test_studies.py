"""Several data sets in one model: names, genes, species, and what does not fit."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from small_models import training_cells
from small_studies import QUICK, SMALL, studies

from sc_ssl.data import GeneVocabulary
from sc_ssl.models import ScPretrain
from sc_ssl.tl import embed


def test_union_of_genes_and_library_sizes_over_all_genes(build_counts):
    data = studies(build_counts)
    model = ScPretrain.from_adatas(data, **SMALL)
    assert set(model.var_names) == {f"GENE{i}" for i in range(128)}
    sizes = np.concatenate([np.asarray(a.X.sum(axis=1)).ravel() for a in data.values()])
    np.testing.assert_allclose(model._own_cells().library_size, sizes)
    shared = ScPretrain.from_adatas(data, min_datasets=2, **SMALL)
    assert set(shared.var_names) == {f"GENE{i}" for i in range(32, 96)}
    np.testing.assert_allclose(shared._own_cells().library_size, sizes)


@pytest.mark.parametrize("scale", ["cp10k", "zscore"])
def test_a_gene_that_a_data_set_did_not_measure_is_no_zero_and_gets_no_gradient(build_counts, scale):
    model = ScPretrain.from_adatas(studies(build_counts), scale=scale, **SMALL)
    model.train(1, **QUICK)
    x = torch.cat([model.module.normalize(cells) for cells in model._loader(model._own_cells())])
    gene = model.var_names.index("GENE3")  # only in the first
    assert (x[120:, gene] == 0).all()
    assert (x[:120, gene] != 0).all()
    assert x[:120, gene].mean() == pytest.approx(0, abs=0.05)  # centred over the cells that measured it
    first = model._own_cells().matrix[:120].toarray()
    logged = np.log1p(1e4 * first / model._own_cells().library_size[:120, None])[:, gene]
    sd = logged.std() if scale == "zscore" else 1
    np.testing.assert_allclose(x[:120, gene], (logged - logged.mean()) / sd, atol=1e-3)
    model.module.zero_grad()
    cells = next(iter(model._loader(training_cells(model), np.arange(120, 180))))
    model.module.loss_terms(cells)["cross_entropy"].backward()
    assert (model.module.encoder.weight.grad[:, gene] == 0).all()
    assert (model.module.encoder.weight.grad[:, model.var_names.index("GENE40")] != 0).any()


def test_data_sets_are_not_changed_and_names_may_repeat_across_them(build_counts):
    data = studies(build_counts)
    before = {name: adata.copy() for name, adata in data.items()}
    ScPretrain.from_adatas(data, **SMALL).train(1, **QUICK)
    for name, adata in data.items():
        assert adata.obs.equals(before[name].obs)
        assert dict(adata.uns) == {}
        assert (adata.X != before[name].X).nnz == 0


def test_species_are_distinguished_and_mapped(build_counts):
    data = studies(build_counts)
    data["second"].var_names = [f"Gene{i + 32}" for i in range(96)]
    with pytest.raises(ValueError, match="first: human, second: mouse.* need orthologs="):
        ScPretrain.from_adatas(data, **SMALL)
    names = {"lemur": "LOC{}", "human": "GENE{}", "mouse": "Gene{}"}
    table = pd.DataFrame({species: [name.format(i) for i in range(128)] for species, name in names.items()})
    model = ScPretrain.from_adatas(data, orthologs=table, across="intersection", **SMALL)
    assert set(model.var_names) == {f"GENE{i}" for i in range(32, 96)}
    sizes = np.asarray(data["second"].X.sum(axis=1)).ravel()
    np.testing.assert_allclose(model._own_cells().library_size[120:], sizes)
    assert model.vocabulary.species == "human"


def test_the_vocabulary_is_kept(build_counts, tmp_path):
    model = ScPretrain.from_adatas(studies(build_counts), species={"first": "pig", "second": "pig"}, **SMALL)
    model.train(1, **QUICK)
    model.save(tmp_path / "model")
    loaded = ScPretrain.load(tmp_path / "model").vocabulary
    assert (loaded.species, loaded.genes) == ("pig", tuple(model.var_names))
    assert loaded.hash == model.vocabulary.hash != GeneVocabulary(loaded.genes, "human").hash


def test_trained_on_several_it_embeds_a_new_one(build_counts):
    model = ScPretrain.from_adatas(studies(build_counts), n_top_genes=60, **SMALL)
    model.train(2, **QUICK)
    assert len(model.var_names) == 60
    new = build_counts(30, seed=5)
    new.var_names = [f"GENE{i}" for i in range(96)]
    embed(new, model)
    assert new.obsm["X_scpretrain"].shape == (30, 8)
    np.testing.assert_allclose(new.obsm["X_scpretrain"], model.get_latent_representation(new), atol=1e-5)


def rename(names):
    def change(data):
        data["second"].var_names = names

    return change


def too_few(data):
    data["second"] = data["second"][:4].copy()


def logged(data):
    data["second"].X = np.log1p(data["second"].X)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename([f"WORM{i}" for i in range(96)]), "'first' shares no gene with the others"),
        (rename([f"ENSG{i:011}" for i in range(96)]), "same kind of gene names, found first: symbol, second: ensembl"),
        (rename([f"ENSG{i:011}" if i % 2 else f"GENE{i}" for i in range(96)]), "50% Ensembl ids"),
        (too_few, "data set 'second': at least 10 cells are needed, found 4"),
        (logged, "data set 'second': X must hold raw counts"),
    ],
    ids=["no shared genes", "other names", "mixed names", "too few cells", "log1p"],
)
def test_data_sets_that_do_not_fit_are_named(build_counts, change, message):
    data = studies(build_counts)
    change(data)
    with pytest.raises(ValueError, match=message):
        ScPretrain.from_adatas(data, **SMALL)


def test_data_sets_without_names_of_their_own_are_refused(counts):
    with pytest.raises(ValueError, match="at least one data set"):
        ScPretrain.from_adatas({})
    with pytest.raises(TypeError, match="given by name, .* found a list"):
        ScPretrain.from_adatas([counts])
    with pytest.raises(ValueError, match="a name of its own, found '1' twice"):
        ScPretrain.from_adatas({1: counts, "1": counts})
    assert ScPretrain.from_adatas({1: counts, 2: counts}, **SMALL).datasets == ["1", "2"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_clusters": [[2, 3]]}, "a row for each of 2 data sets with a whole number for each of 2 mean sizes"),
        ({"n_clusters": [4, 2]}, r"a row for each of 2 data sets .* found \[4, 2\]"),
        ({"n_clusters": 4}, "a row for each of 2 data sets .* found 4"),
        ({"n_clusters": [[4.5, 2], [2, 2]]}, "a whole number .* found .*4.5"),
        ({"species": {"third": "pig"}}, "species= names 'third', which is none of the data sets, first, second"),
        ({"n_clusters": [[2, 3], [1, 3]]}, "data set 'second' of 60 cells can have 2 to 60 clusters, found .*1, 3"),
        ({"n_clusters": [[2, 300], [2, 3]]}, "data set 'first' of 120 cells can have 2 to 120 clusters"),
        ({"min_datasets": 3}, "between 1 and the number of data sets, 2, found 3"),
        ({"n_top_genes": 0}, "n_top_genes is at least 2, found 0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(build_counts, options, message):
    with pytest.raises(ValueError, match=message):
        ScPretrain.from_adatas(studies(build_counts), **SMALL | options)


def test_a_data_set_whose_cells_are_all_alike_is_named(build_counts):
    data = studies(build_counts)
    data["second"].X = sparse.csr_matrix(np.ones(data["second"].shape, np.float32))
    with pytest.raises(ValueError, match="data set 'second': no gene varies"):
        ScPretrain.from_adatas(data, **SMALL).train(1, **QUICK)
