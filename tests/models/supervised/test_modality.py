"""ModalityRegressor: what it learns from, what it trains, what it refuses."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from small_models import training_cells

from sc_ssl import models
from sc_ssl.metrics import pearson
from sc_ssl.models import BYOL, CellLM, ContrastiveSC, MaskedAutoencoder, ModalityRegressor

QUICK = {"batch_size": 40, "enable_progress_bar": False, "accelerator": "cpu"}
SMALL = {
    BYOL: {"n_hidden": [32], "n_latent": 8, "projector": [8]},
    ContrastiveSC: {"n_hidden": [32], "n_latent": 8},
    MaskedAutoencoder: {"n_hidden": [32], "n_latent": 8},
    CellLM: {"n_latent": 16, "transformer": {"n_layers": 1, "n_heads": 2}},
}


def add_proteins(adata, *, noise=0.3, seed=0):
    """Proteins of different scale that follow the cell type, which RNA tells."""
    rng = np.random.default_rng(seed)
    level = rng.normal(size=(3, 5))[adata.obs["cell_type"].cat.codes]
    values = (level + noise * rng.normal(size=level.shape)) * [1, 1, 5, 20, 1] + [0, 3, 0, 100, 0]
    adata.obsm["protein"] = pd.DataFrame(values, index=adata.obs_names, columns=[f"CD{i}" for i in range(5)])
    return adata


@pytest.fixture
def cite(counts):
    return add_proteins(counts)


def build(adata, **options):
    torch.manual_seed(0)
    ModalityRegressor.setup_anndata(adata)
    return ModalityRegressor(adata, **{"n_hidden": [32], "n_latent": 8, "head": [16]} | options)


def fit(adata, *, max_epochs=30, **options):
    model = build(adata, **options)
    model.train(max_epochs, **QUICK)
    return model


def pretrained(model_class, adata, **setup):
    torch.manual_seed(0)
    model_class.setup_anndata(adata, **setup)
    model = model_class(adata, **SMALL[model_class])
    model.train(2, **QUICK)
    return model


def test_prediction_follows_the_proteins_of_other_cells_in_their_units(build_counts):
    train, test = (add_proteins(build_counts(240))[rows].copy() for rows in (slice(0, 160), slice(160, 240)))
    prediction = fit(train, max_epochs=80).get_prediction(test)
    assert list(prediction.columns) == [f"CD{i}" for i in range(5)]
    assert prediction.index.equals(test.obs_names)
    assert pearson(test.obsm["protein"], prediction)["per_feature"] > 0.7
    np.testing.assert_allclose(prediction.mean(), test.obsm["protein"].mean(), atol=4)


@pytest.mark.parametrize("model_class", SMALL)
@pytest.mark.parametrize("freeze_encoder", [True, False])
def test_any_encoder_is_copied_and_trained_or_frozen(cite, tmp_path, model_class, freeze_encoder):
    source = pretrained(model_class, cite.copy())
    before = copy.deepcopy(source.module.state_dict())
    model = build(cite, encoder=source, freeze_encoder=freeze_encoder)
    np.testing.assert_array_equal(model._map_cells(model.module.embed, None, None), source.get_latent_representation())
    model.train(3, **QUICK)
    unchanged = {name: torch.equal(tensor, before[name]) for name, tensor in model.module.encoder.state_dict().items()}
    if freeze_encoder:
        assert all(unchanged.values())
    else:
        trained = [name for name in unchanged if name.startswith(("encoder.", "transformer.")) and "num_b" not in name]
        assert trained and not any(unchanged[name] for name in trained)
    assert not [name for name, p in model.module.named_parameters() if p.requires_grad and "encoder.projector" in name]
    assert all(torch.equal(tensor, before[name]) for name, tensor in source.module.state_dict().items())
    model.save(tmp_path / "model")
    loaded = models.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.get_prediction(cite), model.get_prediction(), atol=1e-5)


@pytest.mark.parametrize("model_class", [BYOL, CellLM])
@pytest.mark.parametrize("key", [None, "library"])
def test_genes_and_library_sizes_are_read_as_the_encoder_does(cite, tmp_path, logged, model_class, key):
    some = cite[:, np.random.default_rng(0).permutation(96)[:70]].copy()
    if key:
        cite.obs[key] = cite.X.sum(axis=1).A1 * 2.0
        some.obs[key] = cite.obs[key] * 1.5
    source = pretrained(model_class, cite.copy(), library_size_key=key)
    model = build(some, encoder=source, freeze_encoder=True)
    assert "26 of the model's 96 genes are missing and take their mean" in logged()
    assert model.var_names == source.var_names
    np.testing.assert_array_equal(
        model._map_cells(model.module.embed, None, None), source.get_latent_representation(some)
    )
    model.train(2, **QUICK)
    model.save(tmp_path / "model")
    loaded = models.load(tmp_path / "model")
    assert loaded.var_names == source.var_names
    pd.testing.assert_frame_equal(loaded.get_prediction(some), model.get_prediction(), atol=1e-5)
    attached = ModalityRegressor.load(tmp_path / "model", some)
    pd.testing.assert_frame_equal(attached.get_prediction(), model.get_prediction(), atol=1e-5)


def test_a_regressor_as_encoder_reads_what_its_own_encoder_does(cite):
    source = pretrained(BYOL, cite.copy())
    some = cite[:, ::-1][:, :70].copy()
    first = fit(some, max_epochs=1, encoder=source)
    second = build(cite, encoder=first, freeze_encoder=True)
    assert second.var_names == source.var_names
    np.testing.assert_array_equal(
        second._map_cells(second.module.embed, None, None), first.get_latent_representation(cite)
    )


def test_cells_are_read_with_the_batches_of_the_encoder(cite, tmp_path):
    cite.obs["donor"] = [f"donor_{i % 2}" for i in range(120)]
    source = pretrained(BYOL, cite.copy(), batch_key="donor")
    model = build(cite, encoder=source, freeze_encoder=True)
    np.testing.assert_array_equal(model._map_cells(model.module.embed, None, None), source.get_latent_representation())
    model.train(2, **QUICK)
    model.save(tmp_path / "model")
    prediction = model.get_prediction()
    del cite.obs["donor"]
    loaded = models.load(tmp_path / "model")
    assert set(loaded._read(cite).batch) == {-1}  # cells of a new batch
    cite.obs["donor"] = [f"donor_{i % 2}" for i in range(120)]
    pd.testing.assert_frame_equal(loaded.get_prediction(cite), prediction, atol=1e-5)


def test_every_parameter_that_is_trained_gets_a_gradient(cite):
    model = build(cite, encoder=pretrained(BYOL, cite.copy()))
    model.module.train()
    model.module.loss_terms(next(iter(model._loader(training_cells(model), None, 40))))["mse"].backward()
    assert not [name for name, p in model.module.named_parameters() if p.requires_grad and p.grad is None]


def test_loss_is_of_z_scores_and_leaves_out_what_was_not_measured(cite):
    cite.obsm["protein"].iloc[::3, 1] = np.nan
    model = fit(cite, max_epochs=3)
    cells = next(iter(model._loader(training_cells(model), None, 40)))
    target = cite.obsm["protein"].to_numpy()[:40]
    z = (target - np.nanmean(cite.obsm["protein"], axis=0)) / np.nanstd(cite.obsm["protein"], axis=0)
    with torch.no_grad():
        error = (model.module.head(model.module.embed(cells)).numpy() - z) ** 2
    loss = model.module.loss_terms(cells)["mse"].item()
    assert loss == pytest.approx(np.mean(np.nanmean(error, axis=1)), rel=1e-4)


def test_arrays_get_names_and_order_follows_the_names(cite):
    model = fit(cite, max_epochs=1)
    loaded = ModalityRegressor.load_query(model, cite)
    cite.obsm["protein"] = cite.obsm["protein"].iloc[:, ::-1]
    values = training_cells(loaded).extra["modality"]
    np.testing.assert_allclose(values[:, ::-1], cite.obsm["protein"], rtol=1e-5)
    cite.obsm["protein"] = cite.obsm["protein"].to_numpy()
    assert list(fit(cite, max_epochs=1).get_prediction().columns) == [f"protein_{i}" for i in range(5)]


def test_prediction_of_some_cells_keeps_their_names(cite):
    model = fit(cite, max_epochs=1)
    some = model.get_prediction(indices=[7, 3])
    pd.testing.assert_frame_equal(some, model.get_prediction().iloc[[7, 3]], atol=1e-5)


def test_bad_input_is_refused_with_names(cite):
    with pytest.raises(KeyError, match="'adt' is not in adata.obsm, which has protein"):
        build(cite, protein_key="adt")
    with pytest.raises(ValueError, match="needs a trained encoder"):
        build(cite, freeze_encoder=True)
    with pytest.raises(ValueError, match="needs 50% of its 96 genes, found 40"):
        build(cite[:, :40].copy(), encoder=pretrained(BYOL, cite.copy()))
    cite.obs["donor"], cite.obs["lane"] = (np.arange(120) % 2).astype(str), (np.arange(120) % 3).astype(str)
    ModalityRegressor.setup_anndata(cite, batch_key="lane")
    with pytest.raises(ValueError, match="reads batches by batch_key='donor', .* registered with batch_key='lane'"):
        ModalityRegressor(cite, encoder=pretrained(BYOL, cite.copy(), batch_key="donor"))
    logged = cite.copy()
    logged.X = np.log1p(logged.X)
    with pytest.raises(ValueError, match="encoder was trained on input='log1p', the cells are input='counts'"):
        build(cite, encoder=pretrained(BYOL, logged, input="log1p"))
    protein = cite.obsm["protein"]
    cite.obsm["protein"] = protein.set_axis(["CD0", *protein.columns[:-1]], axis=1)
    with pytest.raises(ValueError, match="needs a name of its own, found 'CD0' more than once"):
        build(cite)
    cite.obsm["protein"] = protein.astype({"CD1": str})
    with pytest.raises(ValueError, match=r"must hold numbers, found \w+ in column 'CD1'"):
        build(cite)
    cite.obsm["protein"] = protein
    cite.obsm["protein"].iloc[4, 2] = np.inf
    with pytest.raises(ValueError, match="found inf in cell 'cell_4', 'CD2'"):
        build(cite)
    cite.obsm["protein"]["CD2"] = np.nan
    with pytest.raises(ValueError, match="at least 2 cells for each column, found fewer in 'CD2'"):
        build(cite)
