"""Encoders that come with the package, and the same encoder under other names of its genes."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from small_models import QUICK

from sc_ssl import models
from sc_ssl.models import CellClassifier, ScPretrain
from sc_ssl.models.scpretrain.pretrained import COLUMNS, SHIPPED, gene_names, load_renamed, ship

#: a fifth has no ortholog
HUMAN = [f"GENE{i}" for i in range(96)]
ENSEMBL = [f"ENSG{i:011d}" for i in range(96)]
MOUSE = [f"Gene{2 * i}" if i % 5 else "" for i in range(96)]


def study(build_counts, seed):
    adata = build_counts(90, seed=seed)
    adata.var_names = HUMAN
    return adata


@pytest.fixture(scope="module")
def trained(build_counts):
    torch.manual_seed(0)
    model = ScPretrain.from_adatas({name: study(build_counts, seed) for seed, name in enumerate("ab")}, n_latent=8)
    model.train(2, **QUICK)
    return model


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("shipped") / "scpretrain"
    of = dict(zip(HUMAN, zip(ENSEMBL, MOUSE, strict=True), strict=True))
    table = pd.DataFrame({"human_symbol": trained.var_names})
    table[["human_ensembl", "mouse_symbol"]] = [of[name] for name in trained.var_names]
    ship(trained, path, table)
    return path


@pytest.fixture
def query(build_counts):
    return study(build_counts, 7)


def test_half_precision_and_no_training_labels(trained, folder, query):
    model = load_renamed(folder, query.var_names)
    expected = trained.get_latent_representation(query)
    np.testing.assert_allclose(model.get_latent_representation(query), expected, atol=0.01 * expected.std())
    assert len(model.get_pseudo_labels()) == 0 < len(trained.get_pseudo_labels())
    assert "a_50" not in (folder / "model.json").read_text()
    assert (folder / "model.safetensors").stat().st_size < 2.5 * sum(
        tensor.numel() for tensor in trained.module.state_dict().values()
    )


def test_ensembl_ids_with_and_without_version_name_the_same_genes(folder, query):
    expected = load_renamed(folder, query.var_names).get_latent_representation(query)
    for suffix in ("", ".12"):
        query.var_names = [name + suffix for name in ENSEMBL]
        found = load_renamed(folder, query.var_names).get_latent_representation(query[:, ::-1].copy())
        np.testing.assert_array_equal(found, expected)


def test_mouse_genes_are_their_human_orthologs(folder, query):
    """Without orthologs, genes are left out, as when human data lack them."""
    mapped = np.flatnonzero(np.array(MOUSE) != "")
    query.obs["size"] = np.asarray(query.X.sum(axis=1)).ravel()
    human, mouse = query[:, mapped].copy(), query.copy()
    mouse.var_names = [name or f"Only{i}" for i, name in enumerate(MOUSE)]
    as_human, as_mouse = load_renamed(folder, human.var_names), load_renamed(folder, mouse.var_names)
    assert len(as_mouse.var_names) == len(mapped) < len(as_human.var_names)
    key = as_human.setup_arguments["library_size_key"]
    human.obs[key] = mouse.obs[key] = query.obs["size"]
    found = as_mouse.get_latent_representation(mouse)
    np.testing.assert_allclose(found, as_human.get_latent_representation(human), atol=1e-4)


def test_species_can_be_given(folder):
    odd = pd.Index([f"x{i}" for i in range(50)])
    with pytest.raises(ValueError, match="symbol names of an unknown species, such as 'x0'"):
        load_renamed(folder, odd)
    assert set(load_renamed(folder, odd, species="mouse").var_names) == set(MOUSE) - {""}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([f"ENSMUSG{i:011d}" for i in range(9)], "ensembl names of mouse"),
        ([*HUMAN[:5], *ENSEMBL[:5]], "one kind"),
    ],
)
def test_names_that_it_does_not_know_are_refused(folder, names, message):
    with pytest.raises(ValueError, match=message):
        load_renamed(folder, names)


def test_too_few_genes_are_refused(folder, query):
    few = query[:, :40].copy()
    with pytest.raises(ValueError, match="needs 50% of its 96 genes, found 40"):
        load_renamed(folder, few.var_names).get_latent_representation(few)


def test_it_can_be_fine_tuned(folder, query):
    model = load_renamed(folder, query.var_names)
    classifier = CellClassifier.from_pretrained(model, query, labels_key="cell_type")
    classifier.train(15, **QUICK)
    assert np.mean(classifier.predict(unknown=None) == query.obs["cell_type"]) > 0.8


def test_names_that_are_not_a_genes_alone_are_left_out():
    orthologs = pd.DataFrame({"human_symbol": ["A", "B", "C", "D"], "mouse_symbol": ["a1", "b1", "b1", None]})
    ensembl = pd.DataFrame({"human_ensembl": ["E1", "E2", "E3", "E1"], "human_symbol": ["A", "B", "B", "A"]})
    table = gene_names(["A", "B", "C", "D"], orthologs, ensembl)
    assert list(table["mouse_symbol"]) == ["a1", "", "", ""]
    assert list(table["human_ensembl"]) == ["E1", "", "", ""]


def test_a_method_without_one_is_refused():
    with pytest.raises(ValueError, match="shipped for 'scpretrain', found 'byol'"):
        models.pretrained(HUMAN, "byol")


# the one that is shipped


@pytest.fixture(scope="module")
def genes():
    return pd.read_csv(SHIPPED / "scpretrain" / "genes.csv", keep_default_na=False)


def test_the_shipped_encoder_is_small_and_has_a_card():
    files = list((SHIPPED / "scpretrain").iterdir())
    assert sum(path.stat().st_size for path in files) < 8e6
    card = (SHIPPED / "scpretrain" / "README.md").read_text()
    for source in json.loads((SHIPPED / "scpretrain" / "model.json").read_text())["registry"]["field_registries"][
        "batch"
    ]["state_registry"]["categorical_mapping"]["__array__"]:
        assert f"| {source} |" in card


@pytest.mark.parametrize("column", list(COLUMNS.values()))
def test_the_shipped_encoder_knows_genes_by_every_name(genes, column):
    names = [name for name in genes[column] if name]
    assert len(names) == len(set(names)) > 2000
    model = models.pretrained(names)
    cells = AnnData(np.random.default_rng(0).poisson(1.0, (5, len(names))).astype(np.float32))
    cells.var_names = names
    z = model.get_latent_representation(cells)
    assert z.shape == (5, 200) and np.isfinite(z).all() and z.std() > 0
    np.testing.assert_array_equal(model.get_latent_representation(cells), z)


def test_h1_0_is_h1f0_in_mice(genes):
    """A table and not the case of letters."""
    by_human = genes.set_index("human_symbol")["mouse_symbol"]
    assert by_human["H1-0"] == "H1f0" if "H1-0" in by_human else (by_human != by_human.index.str.capitalize()).any()
