"""Cell types of a reference for new cells."""

import logging

import numpy as np
import pandas as pd
import pytest
import torch
from embedding import InterruptOnce

from sc_ssl.models import BYOL, CellClassifier, ScPretrain
from sc_ssl.tl import annotate
from sc_ssl.tl._off_the_shelf import OFF_THE_SHELF, predict_off_the_shelf

QUICK = {"max_epochs": 15, "accelerator": "cpu", "train_kwargs": {"enable_progress_bar": False, "batch_size": 64}}
TABLE = pd.DataFrame({"human": [f"GENE{i}" for i in range(96)], "mouse": [f"Gene{i}x" for i in range(96)]})


@pytest.fixture
def reference(build_counts):
    cells = build_counts(150, depth=6.0)
    cells.var_names = [f"GENE{i}" for i in range(96)]
    return cells


@pytest.fixture
def query(build_counts):
    """Other cells of the same types: fewer and permuted genes, half the depth."""
    cells = build_counts(210, depth=6.0)[150:].copy()
    cells.X.data = np.random.default_rng(1).binomial(cells.X.data.astype(int), 0.5).astype(np.float32)
    cells.var_names = [f"GENE{i}" for i in range(96)]
    cells = cells[:, np.random.default_rng(0).permutation(96)[:80]].copy()
    cells.obs = cells.obs.rename(columns={"cell_type": "truth"})
    return cells


@pytest.fixture
def encoder(reference):
    torch.manual_seed(0)
    model = ScPretrain.from_adatas({"reference": reference}, n_latent=32, cells_per_cluster=[20, 40])
    model.train(40, enable_progress_bar=False, accelerator="cpu")
    return model


@pytest.mark.parametrize("method", ["finetune", "knn", "logistic", "svm", "forest"])
def test_types_are_found_with_other_genes_order_and_depth(reference, query, encoder, method):
    before = query.obs.copy()
    annotate(query, reference, "cell_type", method=method, model=encoder, **QUICK)
    found = query.obs["cell_type"].astype(str)
    assert set(found) <= {"type_0", "type_1", "type_2", "Unknown"}
    known = found != "Unknown"
    assert known.all()
    assert np.mean(found[known] == query.obs["truth"].astype(str)[known]) > 0.8
    score = query.obs["cell_type_score"]
    assert score.dtype == np.float32
    assert score.between(1 / 3 - 1e-6, 1).all()
    pd.testing.assert_frame_equal(query.obs[before.columns], before)
    assert query.uns["cell_type"]["params"]["method"] == method
    proba_nk, classes = query.obsm["cell_type_proba"], query.uns["cell_type"]["classes"]
    np.testing.assert_allclose(proba_nk.sum(axis=1), 1, atol=1e-5)
    assert (classes[proba_nk.argmax(axis=1)] == found).all()


def test_log_says_what_is_taken_from_which(reference, query, encoder, logged):
    annotate(query, reference, "cell_type", method="knn", model=encoder, **QUICK)
    assert logged().count("Taking raw counts from") == 2
    assert "from adata.X" in logged() and "from reference.X" in logged()


def test_without_a_model_an_encoder_is_trained_on_both(reference, query):
    random = np.random.get_state()[1].copy()
    copy = annotate(query, reference, "cell_type", method="logistic", key_added="mine", copy=True, **QUICK)
    assert np.mean(copy.obs["mine"] == query.obs["truth"]) > 0.8
    assert "mine" not in query.obs
    again = annotate(query, reference, "cell_type", method="logistic", key_added="mine", copy=True, **QUICK)
    pd.testing.assert_frame_equal(again.obs, copy.obs, check_exact=True)
    np.testing.assert_array_equal(np.random.get_state()[1], random)


@pytest.mark.parametrize(("model", "method"), [("mae", "finetune"), ("byol", "knn"), (None, "supervised")])
def test_a_method_by_name_is_trained_on_both_or_starts_from_scratch(reference, query, model, method, logged):
    annotate(query, reference, "cell_type", model=model, method=method, **QUICK)
    assert np.mean(query.obs["cell_type"] == query.obs["truth"]) > 0.8
    wanted = "BYOL" if model == "byol" else "MaskedAutoencoder"
    assert query.uns["cell_type"]["params"]["encoder"] == wanted
    assert ("Training an encoder on 80 genes" in logged()) == (method != "supervised")
    assert "dataset" not in query.obs and "dataset" not in reference.obs


def test_a_trained_method_starts_otherwise_than_one_from_scratch(reference, query):
    found = {
        method: annotate(query, reference, "cell_type", model="mae", method=method, copy=True, **QUICK)
        for method in ("finetune", "supervised")
    }
    first, second = (cells.obsm["cell_type_proba"] for cells in found.values())
    assert not np.allclose(first, second)


@pytest.mark.parametrize("model", ["mae", "scpretrain"])
def test_the_encoder_that_was_kept_says_the_same(reference, query, model, tmp_path):
    first, again = (
        annotate(query, reference, "cell_type", method="knn", copy=True, **given, **QUICK)
        for given in ({"model": model, "save_model": tmp_path / "kept"}, {"model": tmp_path / "kept"})
    )
    np.testing.assert_allclose(first.obsm["cell_type_proba"], again.obsm["cell_type_proba"], atol=1e-5)


def test_options_of_the_classifier_are_its_own_and_models_must_be_there(reference, query, encoder):
    frozen, tuned = (
        annotate(query, reference, "cell_type", model=encoder, classifier_kwargs=given, copy=True, **QUICK)
        for given in ({"freeze_encoder": True, "patience": 2}, None)
    )
    assert not np.allclose(frozen.obsm["cell_type_proba"], tuned.obsm["cell_type_proba"])
    logged_cells = reference.copy()
    logged_cells.X = np.log1p(logged_cells.X)
    BYOL.setup_anndata(logged_cells, input="log1p")
    for options, message in (
        ({"model": "maee"}, "one of 'masksc', .*; found 'maee'"),
        ({"model": encoder, "method": "supervised"}, "'supervised' trains a network from scratch; model= names it"),
        ({"model": encoder, "method": "knn", "classifier_kwargs": {"patience": 2}}, "classifier_kwargs are of method="),
        ({"model": BYOL(logged_cells)}, "trained on input='log1p', and the cells are read with input=.counts."),
    ):
        with pytest.raises(ValueError, match=message):
            annotate(query, reference, "cell_type", **options)
    assert not {"cell_type"} & set(query.obs)


def test_cells_are_called_unknown_when_that_is_asked_for(reference, query, encoder):
    def unknown(species="human", **options):
        cells = query.copy()
        if species == "mouse":
            cells.var_names = cells.var_names.str.replace("GENE", "Gene") + "x"
            options |= {"orthologs": TABLE}
        found = annotate(cells, reference, "cell_type", model=encoder, copy=True, **options, **QUICK)
        return np.mean(found.obs["cell_type"] == "Unknown")

    x, markers = query.X.toarray(), query.var_names.isin([f"GENE{i}" for i in range(48)])
    x[:20, markers] = np.ceil(x[:20, markers].mean())  # a third of the cells are of no type
    query.X = x
    assert unknown() == 0
    assert unknown(refuse=True) > 0.1
    assert unknown(species="mouse", refuse=True) > 0.1
    found = annotate(query, reference, "cell_type", model=encoder, refuse=True, copy=True, **QUICK)
    low = found.obs["cell_type_score"] < found.uns["cell_type"]["threshold"]
    assert (low == (found.obs["cell_type"] == "Unknown")).all()
    with pytest.raises(ValueError, match="refuse=True needs method='finetune'"):
        annotate(query, reference, "cell_type", method="knn", model=encoder, refuse=True, **QUICK)


def test_a_query_that_does_not_fit_is_told_before_anything_is_trained(reference, query, encoder, monkeypatch):
    monkeypatch.setattr(CellClassifier, "train", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(ValueError, match="needs 50% of its 96 genes, found 20"):
        annotate(query[:, :20].copy(), reference, "cell_type", model=encoder, **QUICK)
    query.var_names = [f"ENSG{i:011}" for i in range(80)]
    with pytest.raises(ValueError, match="those of the data by Ensembl ids: rename them"):
        annotate(query, reference, "cell_type", model=encoder, **QUICK)


@pytest.mark.parametrize("given", [True, False], ids=["model given", "model trained here"])
def test_another_species_needs_a_table_and_is_then_annotated(reference, query, encoder, given):
    query.var_names = query.var_names.str.replace("GENE", "Gene") + "x"
    options = {"method": "knn", "model": encoder if given else None, **QUICK}
    with pytest.raises(ValueError, match="orthologs="):
        annotate(query, reference, "cell_type", **options)
    assert "cell_type" not in query.obs
    annotate(query, reference, "cell_type", orthologs=TABLE, **options)
    assert np.mean(query.obs["cell_type"] == query.obs["truth"]) > 0.8


@pytest.mark.parametrize("method", ["logistic", "finetune"])
def test_centring_removes_what_sets_all_cells_of_a_data_set_apart(reference, query, encoder, method):
    """Here the markers of one type are high in all cells of the query, as after a change of platform."""
    x, markers = query.X.toarray(), query.var_names.isin([f"GENE{i}" for i in range(16)])
    x[:, markers] += np.random.default_rng(0).poisson(40, (60, markers.sum()))
    query.X = x

    def accuracy(center):
        options = {"method": method, "model": encoder, "center": center}
        found = annotate(query, reference, "cell_type", copy=True, **options, **QUICK)
        return np.mean(found.obs["cell_type"] == query.obs["truth"])

    assert accuracy(True) > accuracy(False)
    assert accuracy(None) == accuracy(False)  # one species


def test_cells_without_a_type_are_not_learnt_from(reference, query, encoder):
    reference.obs["cell_type"] = reference.obs["cell_type"].cat.add_categories("Unknown")
    reference.obs.iloc[:100, reference.obs.columns.get_loc("cell_type")] = "Unknown"
    annotate(query, reference, "cell_type", method="logistic", model=encoder, **QUICK)
    assert set(query.obs["cell_type"]) <= {"type_0", "type_1", "type_2"}


def test_an_interrupted_call_is_finished_by_the_same_call(reference, query, tmp_path, logged):
    annotate(query, reference, "cell_type", key_added="whole", **QUICK)
    train_kwargs = QUICK["train_kwargs"] | {"callbacks": [InterruptOnce()], "checkpoint_seconds": 0}
    interrupted = QUICK | {"train_kwargs": train_kwargs, "save_model": tmp_path / "encoder", "key_added": "x"}
    with pytest.raises(KeyboardInterrupt):
        annotate(query, reference, "cell_type", **interrupted)
    assert "x" not in query.obs
    assert "the same call goes on from them" in logged(logging.WARNING).splitlines()[-1]
    for other, name in (({"max_epochs": 3}, "max_epochs"), ({"n_top_genes": 60}, "the genes")):
        with pytest.raises(ValueError, match=f"unfinished training that differs in .*{name}; repeat the call"):
            annotate(query, reference, "cell_type", **interrupted | other)
    with pytest.raises(ValueError, match="unfinished training that differs in the cells; repeat the call"):
        annotate(query[:40].copy(), reference, "cell_type", **interrupted)
    assert "Going on with the training" not in logged()
    annotate(query, reference, "cell_type", **interrupted)
    assert "Going on with the training that was interrupted, at epoch 2 of 15" in logged()
    np.testing.assert_array_equal(query.obsm["x_proba"], query.obsm["whole_proba"])
    annotate(query, reference, "cell_type", key_added="again", model=tmp_path / "encoder", **QUICK)
    assert (query.obs["again"].astype(str) == query.obs["truth"].astype(str)).mean() > 0.8
    with pytest.raises(ValueError, match="save_model keeps an encoder that is trained here"):
        annotate(
            query, reference, "cell_type", key_added="y", model=tmp_path / "encoder", save_model=tmp_path / "other"
        )
    with pytest.raises(FileExistsError, match="exists already; if a model is in it, model="):
        annotate(query, reference, "cell_type", key_added="y", save_model=tmp_path / "encoder")


@pytest.mark.parametrize("method", ["finetune", "logistic"])
def test_one_labelled_cell_of_each_of_many_types_is_enough(reference, query, encoder, method):
    """Twenty-four types, eight names for each true one, with one labelled cell each."""
    truth = reference.obs["cell_type"].astype(str)
    name = truth + "_" + truth.groupby(truth).cumcount().astype(str)
    chosen = truth.groupby(truth).cumcount() < 8
    reference.obs["fine"] = name.where(chosen, "Unknown")
    annotate(query, reference, "fine", method=method, model=encoder, **QUICK)
    found = query.obs["fine"].astype(str).str.rsplit("_", n=1).str[0]
    assert np.mean(found == query.obs["truth"].astype(str)) > 0.8


def test_result_is_written_only_where_nothing_is(reference, query, encoder):
    query.obs["cell_type_score"] = 1.0
    with pytest.raises(
        ValueError, match=r"obs\['cell_type_score'\] is there already, .* name the result with key_added="
    ):
        annotate(query, reference, "cell_type", model=encoder)
    query.obs["cell_type"] = "mine"
    with pytest.raises(ValueError, match=r"obs\['cell_type'\] is there already, .* name the result with key_added="):
        annotate(query, reference, "cell_type", model=encoder)
    reference.obs["depth"] = np.arange(150) * 0.5
    reference.obs["all_alike"] = "B"
    for column, message in (("depth", "name types of several cells, found 150"), ("all_alike", "at least two types")):
        with pytest.raises(ValueError, match=message):  # before an encoder is trained
            annotate(query, reference, column)
    with pytest.raises(KeyError, match="'nowhere' is not in reference.obs"):
        annotate(query, reference, "nowhere", model=encoder)
    with pytest.raises(ValueError, match="method is one of 'finetune', 'supervised', 'knn'"):
        annotate(query, reference, "cell_type", method="bayes", key_added="x")


@pytest.mark.parametrize("name", list(OFF_THE_SHELF))
def test_off_the_shelf_classifiers_give_probabilities_also_for_types_of_one_cell_and_numbers_as_names(name):
    rng = np.random.default_rng(0)
    type_n = np.repeat([0, 1, 2], [20, 20, 1])
    labels = np.array(["2338", "2339", "c"], dtype=object)[type_n]
    known, query = (4 * np.eye(5)[type_n] + rng.normal(size=(41, 5)) for _ in range(2))
    proba, classes = predict_off_the_shelf(name, known, labels, query, random_state=0)
    assert classes == ["2338", "2339", "c"]
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert len(np.unique(proba.round(6))) > 5  # not decisions
    assert np.mean(proba.argmax(axis=1)[:40] == type_n[:40]) > 0.9


def test_log_normalised_cells_are_annotated(reference, query):
    for cells in (reference, query):
        cells.X = cells.X.log1p()
    with pytest.raises(ValueError, match="must hold raw counts"):
        annotate(query, reference, "cell_type", **QUICK)
    annotate(query, reference, "cell_type", method="knn", input="log1p", **{**QUICK, "max_epochs": 20})
    assert np.mean(query.obs["cell_type"].astype(str) == query.obs["truth"].astype(str)) > 0.8
    assert query.uns["cell_type"]["params"]["input"] == "log1p"
