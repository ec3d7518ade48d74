"""What belongs to the user or to the whole process stays as it was, and what is not finite is never a result."""

import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_counts
from embedding import run
from small_models import QUICK, build, fit
from small_models import SMALL as SIZES

from sc_ssl import models, tl
from sc_ssl.models import METHODS, CellClassifier, ContrastiveSC, MaskedAutoencoder

CLASSES = list(METHODS.values())
every_class = pytest.mark.parametrize("model_class", CLASSES, ids=lambda c: c.__name__)
OPTIONS = {"train_kwargs": {"enable_progress_bar": False}, "accelerator": "cpu", "max_epochs": 2}


def embedded(method="mae", *, seed=0, adata=None, **options):
    adata = make_counts() if adata is None else adata
    small = SIZES[METHODS[method].__name__]
    tl.embed(adata, method, key_added="E", random_state=seed, **OPTIONS | small | options)
    return adata.obsm["E"]


# the process


@every_class
def test_models_are_single_precision_whatever_the_default(model_class, counts):
    expected = fit(model_class, counts.copy()).get_latent_representation()
    torch.set_default_dtype(torch.float64)
    try:
        found = fit(model_class, counts.copy()).get_latent_representation()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(found, expected)


@every_class
def test_mixed_precision_trains_every_method(model_class, counts):
    model = fit(model_class, counts, precision="bf16-mixed")
    assert np.isfinite(model.get_latent_representation()).all()
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}


@pytest.mark.parametrize("precision", ["bf16-true", "64-true", "16-true", 64, "half"])
def test_other_precisions_are_refused_by_name(precision, counts):
    with pytest.raises(ValueError, match="precision is one of '32-true'.*'bf16-mixed'"):
        fit(MaskedAutoencoder, counts, precision=precision)


def test_settings_of_the_process_come_back(counts):
    def settings():
        cudnn = torch.backends.cudnn
        return (
            cudnn.benchmark,
            cudnn.deterministic,
            torch.are_deterministic_algorithms_enabled(),
            torch.get_num_threads(),
        )

    torch.backends.cudnn.benchmark = True
    try:
        before = settings()
        embedded(adata=counts, train_kwargs={"enable_progress_bar": False, "deterministic": "warn"})
        assert settings() == before
    finally:
        torch.backends.cudnn.benchmark = False


def test_calls_in_threads_give_what_they_give_alone():
    calls = [("mae", 0), ("byol", 1), ("mae", 1), ("pca", 0)]

    def work(call):
        method, seed = call
        if method == "pca":
            adata = make_counts()
            tl.pca_cosine(adata, n_comps=4)
            return adata.obsm["X_pca_cosine"]
        return embedded(method, seed=seed)

    alone = [work(call) for call in calls]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(work, calls))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_level_that_was_set_before_the_first_use_stays():
    lines = (
        "import logging; log = logging.getLogger('sc_ssl'); log.setLevel(40); import sc_ssl._logging; print(log.level)"
    )
    found = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["40"]


def test_a_line_is_logged_once_a_call(counts, caplog):
    counts.obs["batch"] = np.where(np.arange(120) % 2, "nan", "b")
    counts.var["feature_types"] = "Antibody Capture"
    with caplog.at_level(logging.WARNING, "sc_ssl"):
        embedded(adata=counts, batch_key="batch")
    lines = [record.getMessage() for record in caplog.records]
    assert sum("'nan'" in line for line in lines) == 1
    assert sum("Antibody Capture" in line for line in lines) == 1


# the cells


def test_registered_counts_are_the_models_own(counts):
    expected = fit(MaskedAutoencoder, counts.copy()).get_latent_representation()
    model = build(MaskedAutoencoder, counts)
    counts.X.data[:] = 1
    model.train(2, **QUICK)
    np.testing.assert_array_equal(model.get_latent_representation(), expected)


def test_columns_that_were_not_named_are_not_read(build_counts):
    def annotated(**columns):
        reference, cells = build_counts(seed=1), build_counts()
        for adata in (reference, cells):
            for name, values in columns.items():
                adata.obs[name] = values
        options = {"max_epochs": 2, "accelerator": "cpu", "train_kwargs": {"enable_progress_bar": False}}
        tl.annotate(cells, reference, "cell_type", model="mae", key_added="found", method="knn", **options)
        return cells.obsm["found_proba"]

    theirs = {"dataset": None, "_scvi_batch": "a", "_scvi_labels": 3, "sc_ssl_library_size": -1.0, "sc_ssl_type": "x"}
    np.testing.assert_array_equal(annotated(**theirs), annotated())


@pytest.mark.parametrize("key", ["dataset", "sc_ssl_library_size"])
def test_types_may_stand_in_a_column_of_any_name(key, build_counts):
    reference, cells = build_counts(seed=1), build_counts()
    reference.obs[key] = reference.obs["cell_type"].to_numpy()
    tl.annotate(cells, reference, key, method="knn", **OPTIONS)
    assert set(cells.obs[key]) <= set(reference.obs["cell_type"])


# names, through whole calls

BATCHES = {
    "whole": lambda n: n,
    "float": lambda n: n.astype(float),
    "category": lambda n: pd.Categorical(n.astype(float)),
    "object": lambda n: n.astype(object),
}


@pytest.mark.parametrize("values", BATCHES.values(), ids=BATCHES)
def test_batches_are_compared_as_text_in_training_and_in_queries(values, counts):
    number = np.arange(120) % 3 + 1
    counts.obs["batch"] = number.astype(str)
    model = fit(MaskedAutoencoder, counts.copy(), setup={"batch_key": "batch"})
    expected = model.get_latent_representation()
    counts.obs["batch"] = values(number)
    np.testing.assert_array_equal(model.get_latent_representation(counts), expected)
    np.testing.assert_array_equal(
        fit(MaskedAutoencoder, counts, setup={"batch_key": "batch"}).get_latent_representation(), expected
    )


def test_one_batch_under_two_names_is_refused_where_it_would_be_two(counts):
    counts.obs["batch"] = pd.Series([1, "1"] * 60, index=counts.obs_names, dtype=object)
    with pytest.raises(ValueError, match="has the name '1' as a number and as text"):
        MaskedAutoencoder.setup_anndata(counts, batch_key="batch")


@every_class
def test_whole_numbers_name_genes_as_their_text_does(model_class, counts):
    numbered, reversed_ = counts.copy(), counts[:, ::-1].copy()
    counts.var_names = [str(i) for i in range(96)]
    expected = fit(model_class, counts).get_latent_representation()
    numbered.var.index, reversed_.var.index = pd.RangeIndex(96), pd.Index(np.arange(96.0)[::-1])
    model = fit(model_class, numbered)
    assert model.var_names == list(counts.var_names)
    np.testing.assert_array_equal(model.get_latent_representation(), expected)
    np.testing.assert_array_equal(model.get_latent_representation(reversed_), expected)


def test_types_are_compared_as_text(counts):
    counts.obs["n"] = (np.arange(120) % 3).astype(float)
    counts.obs.loc[counts.obs_names[:5], "n"] = np.nan
    assert CellClassifier.check_labels(counts, "n") == ["0", "1", "2"]


# what is not finite


def test_a_damaged_model_is_an_error_before_anything_is_written(counts, tmp_path):
    model = fit(ContrastiveSC, counts.copy())
    with torch.no_grad():
        next(model.module.parameters()).fill_(torch.nan)
    model.save(tmp_path / "model")
    for method in (model, tmp_path / "model"):
        with pytest.raises(ValueError, match="is not finite"):
            tl.embed(counts, method)
    assert not counts.obsm and not counts.uns


def test_a_training_that_diverges_writes_and_saves_nothing(counts, tmp_path):
    with pytest.raises((ValueError, FloatingPointError), match="lr"):
        run(counts, train_kwargs={"enable_progress_bar": False, "plan_kwargs": {"lr": 1e30}}, save_model=tmp_path / "m")
    assert not counts.obsm and not counts.uns
    with pytest.raises((ValueError, FileNotFoundError)):
        models.load(tmp_path / "m")


# cells without counts


@pytest.mark.parametrize("method", ["finetune", "knn"])
def test_cells_without_counts_are_unknown(method, build_counts, warnings_logged):
    reference, cells = build_counts(seed=1), build_counts()
    x = cells.X.toarray()
    x[:7] = 0
    cells.X = type(cells.X)(x)
    tl.annotate(cells, reference, "cell_type", method=method, key_added="found", **OPTIONS)
    assert set(cells.obs["found"][:7]) == {"Unknown"}
    assert "Unknown" not in set(cells.obs["found"][7:])
    np.testing.assert_allclose(cells.obs["found_score"][:7], 1 / 3)
    assert any("7 cells have no counts" in line for line in warnings_logged())
