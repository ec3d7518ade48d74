"""Naming cell types with a pretrained encoder."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from scipy.special import softmax
from small_classifiers import classify
from small_models import QUICK, add_targets, fit

from sc_ssl import models
from sc_ssl.models import METHODS, CellClassifier, MaskSC
from sc_ssl.models.supervised.head import calibration
from sc_ssl.tl import embed


@pytest.fixture(scope="module")
def cells(build_counts):
    return build_counts(240)


@pytest.fixture(scope="module")
def classifier(pretrained, cells):
    return classify(pretrained, cells.copy())


# from a pretrained model


@pytest.mark.parametrize("name", [c.__name__ for c in METHODS.values()])
def test_any_model_can_be_the_encoder(name, cells, build_counts):
    model = fit(getattr(models, name), cells.copy(), max_epochs=15)
    found = CellClassifier.from_pretrained(model, cells.copy(), labels_key="cell_type")
    own = found.get_latent_representation()
    # ScPretrain maps cells while they are sparse, which rounds otherwise; all others give the same bits
    np.testing.assert_allclose(own, model.get_latent_representation(), rtol=0, atol=1e-5 if name == "ScPretrain" else 0)
    torch.manual_seed(0)
    found.train(20, **QUICK)
    new = build_counts(90)[60:].copy()
    assert np.mean(found.predict(new, unknown=None) == new.obs["cell_type"]) > 0.7


def test_genes_are_matched_by_name(pretrained, cells):
    shuffled = cells[:, np.random.default_rng(0).permutation(cells.n_vars)].copy()
    found = CellClassifier.from_pretrained(pretrained, shuffled, labels_key="cell_type")
    np.testing.assert_allclose(found.get_latent_representation(), pretrained.get_latent_representation(), atol=1e-5)


def test_appended_genes_come_last_and_leave_the_others_weights(pretrained, cells):
    more = cells.copy()
    more.var_names = [*more.var_names[:90], *(f"new_{i}" for i in range(6))]
    found = CellClassifier.from_pretrained(pretrained, more, labels_key="cell_type", extra_genes="append")
    assert found.var_names == [*pretrained.var_names, *(f"new_{i}" for i in range(6))]
    weight = found.module.encoder.encoder.weight
    assert torch.equal(weight[:, :96], pretrained.module.encoder.weight)
    assert weight[:, 96:].std() > 0
    mean = np.log1p(cells.X[:, 90:].toarray() * float(found.module.normalize.target_sum) / cells.X.sum(axis=1)).mean(
        axis=0
    )
    np.testing.assert_allclose(found.module.normalize.mean_bg[0, 96:], np.ravel(mean), rtol=0.1)
    found.train(2, **QUICK)
    assert len(found.predict(more)) == 240


def test_genes_cannot_be_appended_to_patches(cells):
    more = cells.copy()
    more.var_names = [*more.var_names[:60], *(f"new_{i}" for i in range(36))]
    with pytest.raises(ValueError, match="no genes can be appended to a MaskSC"):
        CellClassifier.from_pretrained(
            fit(MaskSC, cells.copy(), max_epochs=15), more, labels_key="cell_type", extra_genes="append"
        )


def test_genes_cannot_be_appended_to_what_reads_the_genes_of_its_own_encoder(pretrained, cells):
    more = cells.copy()
    more.var_names = [*more.var_names[:90], *(f"new_{i}" for i in range(6))]
    regressor = fit(models.ModalityRegressor, cells.copy(), max_epochs=1)
    with pytest.raises(ValueError, match="no genes can be appended to a ModalityRegressor; take extra_genes='drop'"):
        CellClassifier.from_pretrained(regressor, more, labels_key="cell_type", extra_genes="append")


def test_a_classifier_reads_genes_and_batches_as_the_encoder_of_its_encoder(cells):
    cells = cells.copy()
    cells.obs["donor"] = [f"donor_{i % 2}" for i in range(cells.n_obs)]
    byol = fit(models.BYOL, cells.copy(), setup={"batch_key": "donor"})
    add_targets(cells)
    models.ModalityRegressor.setup_anndata(cells)
    regressor = models.ModalityRegressor(cells, encoder=byol)
    regressor.train(1, **QUICK)
    found = CellClassifier.from_pretrained(regressor, cells[:, ::-1].copy(), labels_key="cell_type")
    assert found.var_names == byol.var_names
    np.testing.assert_allclose(found.get_latent_representation(), regressor.get_latent_representation(), atol=1e-5)


def test_the_pretrained_model_and_the_cells_stay_as_they_are(pretrained, cells):
    weights = {name: tensor.clone() for name, tensor in pretrained.module.state_dict().items()}
    own = cells.copy()
    classify(pretrained, own, epochs=2)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in pretrained.module.state_dict().items())
    assert own.obs.equals(cells.obs)
    assert dict(own.uns) == {}


# predicting


def test_names_probabilities_and_uncertainty_agree(classifier, cells):
    proba, uncertainty = classifier.predict(cells, soft=True, return_uncertainty=True)
    assert list(proba.columns) == ["type_0", "type_1", "type_2"]
    assert proba.index.equals(cells.obs_names)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(uncertainty, 1 - proba.max(axis=1), atol=1e-6)
    assert (classifier.predict(cells, unknown=None) == proba.idxmax(axis=1)).all()
    logits = classifier._map_cells(classifier.module.logits, cells, None)
    np.testing.assert_allclose(proba, softmax(logits / float(classifier.module.temperature), axis=1), atol=1e-5)
    assert (classifier.predict(cells, [5, 3], unknown=None) == proba.idxmax(axis=1).iloc[[5, 3]]).all()


def test_temperature_and_threshold_are_those_of_the_validation_cells(classifier, cells):
    label = cells.obs["cell_type"].cat.codes.to_numpy(np.int64)
    label[::10] = (label[::10] + 1) % 3  # a tenth is wrong: certainty does not pay
    logits = classifier._map_cells(classifier.module.logits, cells, None)
    t, threshold = calibration(torch.as_tensor(logits), label, 0.1)
    logits = logits.astype(float)

    def loss(temperature):
        target = np.eye(3)[label] * (1 - 1 / 242) + 1 / 242 / 3
        return -(target * np.log(softmax(logits / temperature, axis=1))).sum(axis=1).mean()

    assert loss(t) < min(loss(1.1 * t), loss(t / 1.1))
    proba = softmax(logits / t, axis=1)
    right = proba.argmax(axis=1) == label
    assert threshold == pytest.approx(np.quantile(proba[right].max(axis=1), 0.1), rel=1e-4)


def test_cells_unlike_any_type_are_called_unknown_and_few_others_are(pretrained, cells):
    known = cells[cells.obs["cell_type"] != "type_2"].copy()
    found = classify(pretrained, known, epochs=30, freeze_encoder=True)
    odd = cells[cells.obs["cell_type"] == "type_2"].copy()
    refused = np.mean(found.predict(odd) == "Unknown")
    assert refused > np.mean(found.predict(known) == "Unknown") + 0.2
    assert np.mean(found.predict(known) == "Unknown") < 0.15
    assert not (found.predict(odd, unknown=None) == "Unknown").any()


def test_saved_classifier_predicts_the_same(classifier, cells, tmp_path):
    classifier.save(tmp_path / "classifier")
    loaded = models.load(tmp_path / "classifier")
    pd.testing.assert_frame_equal(
        loaded.predict(cells, soft=True), classifier.predict(cells, soft=True), check_exact=True
    )
    assert (loaded.predict(cells) == classifier.predict(cells)).all()
    with pytest.raises(ValueError, match="pretrained model is needed, found a CellClassifier"):
        CellClassifier.from_pretrained(tmp_path / "classifier", cells.copy(), labels_key="cell_type")


def test_a_saved_model_can_be_the_encoder(pretrained, cells, tmp_path):
    pretrained.save(tmp_path / "model")
    found = CellClassifier.from_pretrained(tmp_path / "model", cells.copy(), labels_key="cell_type")
    np.testing.assert_allclose(found.get_latent_representation(), pretrained.get_latent_representation(), atol=1e-5)


def test_centring_takes_off_what_all_new_cells_share(pretrained, cells):
    found = classify(pretrained, cells.copy(), epochs=3)
    shifted = cells.copy()
    shifted.X = sparse.csr_matrix(cells.X + np.where(np.arange(cells.n_vars) < 30, 12.0, 0.0)[None]).astype(np.float32)
    right = shifted.obs["cell_type"].to_numpy()
    plain, centred = (found.predict(shifted, unknown=None, center=center) == right for center in (False, True))
    assert centred.mean() > plain.mean() + 0.1
    assert centred.mean() > 0.9
    z = found.get_latent_representation(shifted)
    np.testing.assert_allclose(found.module.center_d, found.get_latent_representation().mean(axis=0), atol=1e-5)
    moved = torch.as_tensor(z - z.mean(axis=0)) + found.module.center_d
    np.testing.assert_allclose(found.predict(shifted, soft=True, center=True), found.module.proba_at(moved), atol=1e-5)


def test_same_seed_gives_the_same(pretrained, cells, classifier):
    pd.testing.assert_frame_equal(
        classify(pretrained, cells.copy()).predict(soft=True), classifier.predict(soft=True), check_exact=True
    )


# what is refused


def test_unusable_labels_are_refused(pretrained, cells):
    adata = cells.copy()
    adata.obs["none"] = "Unknown"
    adata.obs["one"] = "B"
    with pytest.raises(KeyError, match="'nowhere' is not in adata.obs"):
        CellClassifier.from_pretrained(pretrained, adata, labels_key="nowhere")
    with pytest.raises(ValueError, match=r"obs\['none'\] should name at least two types, found none: all cells"):
        CellClassifier.from_pretrained(pretrained, adata, labels_key="none")
    with pytest.raises(ValueError, match=r"two types, found \['B'\]"):
        CellClassifier.from_pretrained(pretrained, adata, labels_key="one")
    with pytest.raises(ValueError, match="needs 50% of its 96 genes, found 10"):
        CellClassifier.from_pretrained(pretrained, adata[:, :10].copy(), labels_key="cell_type")
    with pytest.raises(ValueError, match="extra_genes is one of 'drop', 'append', found 'add'"):
        CellClassifier.from_pretrained(pretrained, adata, labels_key="cell_type", extra_genes="add")
    with pytest.raises(ValueError, match="min_coverage is a share"):
        CellClassifier.from_pretrained(pretrained, adata, labels_key="cell_type", min_coverage=0)
    classifier = CellClassifier.from_pretrained(pretrained, adata, labels_key="cell_type")
    with pytest.raises(ValueError, match=r"refused_share lies in \[0, 1\), found 0.0, .* and 2"):
        classifier.train(1, lr_head=0.0, refused_share=2)
    with pytest.raises(TypeError, match="use CellClassifier.from_pretrained"):
        CellClassifier(adata, encoder={}, classes=[], labels_key="cell_type")


def test_numbers_that_a_missing_one_made_fractional_are_whole_names(pretrained, cells):
    adata = cells.copy()
    adata.obs["cluster"] = np.where(np.arange(240) < 5, np.nan, np.arange(240) % 3)
    classifier = CellClassifier.from_pretrained(pretrained, adata, labels_key="cluster")
    assert classifier.classes == ["0", "1", "2"]
    assert classifier.labels[:7].tolist() == [None] * 5 + ["2", "0"]


def test_an_encoder_that_is_not_trained_is_warned_about(cells, warnings_logged):
    MaskSC.setup_anndata(cells)
    untrained = MaskSC(cells, patches={"size": 16})
    CellClassifier.from_pretrained(untrained, cells.copy(), labels_key="cell_type")
    assert any("The MaskSC that serves as the encoder is not trained" in line for line in warnings_logged())


def test_untrained_classifier_predicts_nothing(pretrained, cells):
    with pytest.raises(RuntimeError, match="train the model first"):
        CellClassifier.from_pretrained(pretrained, cells.copy(), labels_key="cell_type").predict()


def test_a_classifier_is_no_embedding_method(classifier, cells):
    with pytest.raises(ValueError, match="names types; use its predict"):
        embed(cells.copy(), classifier)
