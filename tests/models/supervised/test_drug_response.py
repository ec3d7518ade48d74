"""DrugResponse: what it learns, what new drugs get, what it keeps, what it refuses."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge
from small_models import training_cells

from sc_ssl import models
from sc_ssl.models import BYOL, DrugResponse
from sc_ssl.models.supervised import drug_response
from sc_ssl.models.supervised.drug_module import PENALTIES, ridge_regression, tanimoto

QUICK = {"batch_size": 40, "enable_progress_bar": False, "accelerator": "cpu"}
SMALL = {"n_hidden": [32], "n_latent": 8, "n_drug_hidden": 16, "gene_dropout_rate": 0.1, "dropout_rate": 0.0}
N_DRUGS = 12


def add_responses(adata, *, noise=0.2, seed=0):
    """Drugs of two targets: type 0 responds to those of the first, type 1 to the others; potencies differ."""
    rng = np.random.default_rng(seed)
    target = np.arange(N_DRUGS) % 2
    cell_type = adata.obs["cell_type"].cat.codes.to_numpy()
    sensitive = (cell_type[:, None] == target) * -1.5
    level = np.where(target == 0, -2.0, 3.0) + rng.normal(scale=0.3, size=N_DRUGS)
    values = level + sensitive + noise * rng.normal(size=sensitive.shape)
    names = [f"drug_{i}" for i in range(N_DRUGS)]
    adata.obsm["ln_ic50"] = pd.DataFrame(values, index=adata.obs_names, columns=names)
    features = (rng.random((N_DRUGS, 40)) < 0.1).astype(float)
    features[:, :5], features[:, 5:10] = target[:, None] == 0, target[:, None] == 1
    return adata, pd.DataFrame(features, index=names)


@pytest.fixture
def screen(counts):
    return add_responses(counts)


def build(adata, drugs, **options):
    torch.manual_seed(0)
    DrugResponse.setup_anndata(adata, input=options.pop("input", "counts"))
    return DrugResponse(adata, drugs=drugs, **SMALL | options)


def fit(adata, drugs, *, max_epochs=40, **options):
    model = build(adata, drugs, **options)
    model.train(max_epochs, **QUICK)
    return model


def correlation(a, b):
    return np.mean([np.corrcoef(a[name], b[name])[0, 1] for name in a])


def test_it_predicts_other_cells_in_the_units_of_the_responses(build_counts):
    adata, drugs = add_responses(build_counts(240))
    train, test = adata[:160].copy(), adata[160:]
    prediction = fit(train, drugs).get_prediction(test)
    truth = test.obsm["ln_ic50"]
    assert prediction.index.equals(test.obs_names) and list(prediction) == list(truth)
    assert correlation(truth, prediction) > 0.85
    np.testing.assert_allclose(prediction.mean(), truth.mean(), atol=0.3)


def test_a_new_drug_responds_and_has_the_level_of_drugs_that_are_like_it(screen):
    adata, drugs = screen
    old, new = drugs.index[:-2], drugs.index[-2:]
    truth = adata.obsm["ln_ic50"][new]
    adata.obsm["ln_ic50"] = adata.obsm["ln_ic50"][old]
    prediction = fit(adata, drugs).get_prediction(drugs=drugs.loc[new])
    assert correlation(truth, prediction) > 0.7
    assert (prediction.mean() - truth.mean()).abs().max() < 1.5  # the two targets lie 5 apart


def test_level_of_a_new_drug_is_kernel_ridge_regression(screen):
    adata, drugs = screen
    module = build(adata, drugs).module
    feature_mf = torch.tensor(drugs.to_numpy(), dtype=torch.float32)
    shared = drugs.to_numpy() @ drugs.to_numpy().T
    n_bits = drugs.to_numpy().sum(axis=1)
    similarity = shared / (n_bits[:, None] + n_bits - shared)
    np.testing.assert_allclose(tanimoto(feature_mf, feature_mf), similarity)
    mean = adata.obsm["ln_ic50"].mean().to_numpy()
    expected = mean.mean() + similarity @ np.linalg.solve(similarity + np.eye(N_DRUGS), mean - mean.mean())
    np.testing.assert_allclose(module.level(feature_mf)[0], expected, rtol=1e-4)


def test_loss_is_of_z_scores_over_measured_pairs(screen):
    adata, drugs = screen
    adata.obsm["ln_ic50"].iloc[::3, 1] = np.nan
    model = fit(adata, drugs, max_epochs=2)
    cells = next(iter(model._loader(training_cells(model), None, 40)))
    values = adata.obsm["ln_ic50"]
    z = ((values - values.mean()) / values.std(ddof=0)).to_numpy()[:40]
    with torch.no_grad():
        error = (model.module.respond(cells, model.module.describe(model.module.feature_mf, None)).numpy() - z) ** 2
        assert model.module.loss_terms(cells)["mse"].item() == pytest.approx(np.nanmean(error), rel=1e-4)


def test_features_of_no_training_drug_say_nothing(screen):
    adata, drugs = screen
    drugs[40] = 0.0
    model = fit(adata, drugs, max_epochs=2)
    changed = drugs.iloc[:1].assign(**{"40": 5.0}).set_axis(drugs.columns.append(pd.Index(["x"])), axis=1).iloc[:, :41]
    module = model.module
    cells = next(iter(model._loader(model._own_cells(), None, 10)))
    with torch.no_grad():
        same = [
            module.respond(cells, module.describe(torch.as_tensor(d.to_numpy(), dtype=torch.float32), None))
            for d in (drugs[:1], changed)
        ]
    torch.testing.assert_close(*same)


def test_any_encoder_is_copied_and_a_model_is_saved_without_data(screen, tmp_path):
    adata, drugs = screen
    source_cells = adata.copy()
    BYOL.setup_anndata(source_cells)
    source = BYOL(source_cells, n_hidden=[32], n_latent=8, projector=[8])
    source.train(2, **QUICK)
    model = build(adata, drugs, encoder=source, freeze_encoder=True)
    before = source.get_latent_representation()
    model.train(3, **QUICK)
    np.testing.assert_array_equal(model._map_cells(model.module.embed, None, None), before)
    model.save(tmp_path / "model")
    assert "cell_0" not in (tmp_path / "model" / "model.json").read_text()
    loaded = models.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.get_prediction(adata), model.get_prediction(), atol=1e-5)
    assert json.loads(json.dumps(loaded.plain_init_params()["drugs"])) == loaded.plain_init_params()["drugs"]
    new = drugs.iloc[:2].set_axis(["a", "b"])
    pd.testing.assert_frame_equal(loaded.get_prediction(adata, new), model.get_prediction(drugs=new), atol=1e-5)


def rings_and_chains(adata):
    """Responses as of :func:`add_responses`; the drugs of one target are aromatic, those of the other chains."""
    adata, _ = add_responses(adata)
    smiles = {f"drug_{i}": ("c1ccccc1" if i % 2 == 0 else "C") + "C" * (i + 1) + "O" for i in range(N_DRUGS)}
    return adata, smiles


def test_a_graph_network_reads_what_a_drug_is_made_of(counts, tmp_path):
    pytest.importorskip("torch_geometric")
    pytest.importorskip("rdkit")
    adata, smiles = rings_and_chains(counts)
    known = dict(list(smiles.items())[:-2])
    table = adata.obsm["ln_ic50"]
    adata.obsm["ln_ic50"] = table[list(known)]
    model = fit(adata, known, drug_encoder="gin")
    new = {name: smiles[name] for name in list(smiles)[-2:]}
    found = model.get_prediction(adata, new)
    assert correlation(found, table[list(new)]) > 0.6  # a ring, and a chain, that were not trained on
    from_the_end = {"chain": "O" + "C" * 13}  # the chain among them, written from the other end
    np.testing.assert_allclose(model.get_prediction(adata, from_the_end)["chain"], found["drug_11"], rtol=1e-4)
    model.save(tmp_path / "model")
    loaded = models.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.get_prediction(adata), model.get_prediction(adata), check_exact=True)
    pd.testing.assert_frame_equal(loaded.get_prediction(adata, new), found, check_exact=True)


def test_responses_in_an_array_are_refused_for_want_of_names(screen):
    adata, drugs = screen
    adata.obsm["ln_ic50"] = adata.obsm["ln_ic50"].to_numpy()
    with pytest.raises(ValueError, match=r"does not show which column is which drug; make it a table: adata.obsm"):
        build(adata, drugs)


def test_a_graph_network_needs_smiles(screen):
    pytest.importorskip("torch_geometric")
    pytest.importorskip("rdkit")
    with pytest.raises(ValueError, match="a graph needs SMILES"):
        build(*screen, drug_encoder="gin")


def test_smiles_are_kept_and_read_again_only_for_new_drugs(screen, tmp_path):
    pytest.importorskip("rdkit")
    adata, _ = screen
    smiles = {f"drug_{i}": "C" * (i + 1) + "O" for i in range(N_DRUGS)}
    model = fit(adata, smiles, max_epochs=1)
    model.save(tmp_path / "model")
    loaded = DrugResponse.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.get_prediction(adata), model.get_prediction(), atol=1e-5)
    pd.testing.assert_index_equal(loaded.get_prediction(adata, {"new": "CCN"}).columns, pd.Index(["new"]))


def test_scaled_expression_is_taken_when_it_is_said(screen):
    adata, drugs = screen
    adata.X = np.log1p(adata.X.toarray())
    adata.X = (adata.X - adata.X.mean(axis=0)) / adata.X.std(axis=0)
    with pytest.raises(ValueError, match="X must hold raw counts .* found scaled"):
        build(adata, drugs)
    model = fit(adata, drugs, input="scaled")
    assert correlation(adata.obsm["ln_ic50"], model.get_prediction()) > 0.8
    with pytest.raises(ValueError, match="input of a BYOL is one of 'counts', 'log1p', found 'scaled'"):
        BYOL.setup_anndata(adata, input="scaled")


def test_the_same_seed_gives_the_same_model(screen):
    adata, drugs = screen
    first, second = (fit(adata.copy(), drugs, max_epochs=2).get_prediction() for _ in range(2))
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_bad_input_is_refused_with_names(screen):
    adata, drugs = screen
    with pytest.raises(
        ValueError, match="responses to 2 drugs that are not among the 10 drugs given, for example 'drug_10'"
    ):
        build(adata, drugs.iloc[:10])
    with pytest.raises(KeyError, match="'auc' is not in adata.obsm, which has ln_ic50"):
        build(adata, drugs, response_key="auc")
    model = fit(adata, drugs, max_epochs=1)
    with pytest.raises(ValueError, match="the model knows 40 features of a drug, found 2"):
        model.get_prediction(drugs={"new": [1.0, 2.0]})
    adata.obsm["ln_ic50"]["drug_3"] = np.nan
    with pytest.raises(ValueError, match="found fewer in 'drug_3'"):
        build(adata, drugs)


def test_the_regression_of_each_drug_is_on_the_cells_in_which_it_was_measured(screen):
    adata, drugs = screen
    adata.obsm["ln_ic50"].iloc[::3, 1] = np.nan
    model = fit(adata, drugs, max_epochs=1)
    x_ng = model._map_cells(model.module.normalize, None, None).astype(float)
    values, module = adata.obsm["ln_ic50"], model.module
    found = model.get_prediction(linear_share=1.0)
    for name in ("drug_0", "drug_1"):
        y_n = values[name].to_numpy()
        rows = np.isfinite(y_n)
        errors = []
        for penalty in PENALTIES * np.square(x_ng - x_ng.mean(axis=0)).sum(axis=1).mean():
            expected = Ridge(penalty).fit(x_ng[rows], y_n[rows]).predict(x_ng)
            errors.append(np.abs(expected - found[name]).max())
        assert min(errors) < 1e-4
    half = model.get_prediction(linear_share=0.5)
    pd.testing.assert_frame_equal(half, (found + model.get_prediction()) / 2, atol=1e-5)
    assert module.linear_gm.shape == (adata.n_vars, N_DRUGS)


def test_the_regression_tells_new_cells_and_new_drugs(build_counts, tmp_path):
    adata, drugs = add_responses(build_counts(240))
    train, test, old, new = adata[:160].copy(), adata[160:].copy(), drugs.index[:-2], drugs.index[-2:]
    train.obsm["ln_ic50"] = train.obsm["ln_ic50"][old]
    model = fit(train, drugs, max_epochs=1)
    assert correlation(test.obsm["ln_ic50"][old], model.get_prediction(test, linear_share=1.0)) > 0.85
    of_new = model.get_prediction(test, drugs.loc[new], linear_share=1.0)
    assert correlation(test.obsm["ln_ic50"][new], of_new) > 0.7
    assert not np.allclose(of_new, model.get_prediction(test, drugs.loc[new]))
    model.save(tmp_path / "model")
    again = models.load(tmp_path / "model").get_prediction(test, drugs.loc[new], linear_share=1.0)
    pd.testing.assert_frame_equal(again, of_new, atol=1e-5)
    with pytest.raises(ValueError, match=r"linear_share is a share in \[0, 1\], found 2"):
        model.get_prediction(test, linear_share=2)


def test_cells_without_a_response_say_nothing_to_the_regression(build_counts):
    adata, drugs = add_responses(build_counts(200))
    adata.obsm["ln_ic50"].iloc[40:] = np.nan
    model = fit(adata, drugs, max_epochs=1)
    x_ng = model._map_cells(model.module.normalize, None, np.arange(40))
    z_nm = (adata.obsm["ln_ic50"].to_numpy()[:40] - model.module.mean_m.numpy()) / model.module.sd_m.numpy()
    np.testing.assert_allclose(model.module.linear_gm.numpy(), ridge_regression(x_ng, z_nm)[0], atol=1e-5)
    assert model.get_prediction(indices=[]).shape == (0, N_DRUGS)


def test_of_many_cells_the_regression_takes_some_and_a_drug_without_these_has_no_weights(screen, monkeypatch):
    adata, drugs = screen
    monkeypatch.setattr(drug_response, "MAX_CELLS", 30)
    taken = np.unique(np.linspace(0, 119, 30).astype(int))
    adata.obsm["ln_ic50"].iloc[taken, 3] = np.nan
    model = fit(adata, drugs, max_epochs=1)
    weight_gm = model.module.linear_gm.numpy()
    assert not weight_gm[:, 3].any() and weight_gm[:, :3].any(axis=0).all()
    others = np.setdiff1d(np.arange(120), taken)
    adata.obsm["ln_ic50"].iloc[others, 0] = adata.obsm["ln_ic50"].iloc[others, 0].to_numpy()[::-1]
    again = fit(adata, drugs, max_epochs=1).module  # the mean and the sd are still the same
    np.testing.assert_allclose(again.linear_gm.numpy(), weight_gm, atol=1e-6)
