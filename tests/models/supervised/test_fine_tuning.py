"""How a classifier is trained: from a probe, on few labels and on many, and what of the encoder takes part."""

import copy
import re

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback
from scipy import sparse
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from small_classifiers import classify
from small_models import QUICK

from sc_ssl import models
from sc_ssl.data import CellLoader
from sc_ssl.models import CellClassifier
from sc_ssl.models.supervised.fine_tune import adapted, validation_cells
from sc_ssl.models.supervised.head import Head, calibration, linear_probe


@pytest.fixture(scope="module")
def cells(build_counts):
    return build_counts(240)


# training


def test_frozen_encoder_does_not_move_and_unfrozen_does(pretrained, cells):
    def moved(**options):
        found = classify(pretrained, cells.copy(), epochs=3, **options)
        return not torch.equal(found.module.encoder.encoder.weight, pretrained.module.encoder.weight)

    assert not moved(freeze_encoder=True)
    assert moved()


def with_few_labels(cells, n=45):
    few = cells.copy()
    few.obs["cell_type"] = few.obs["cell_type"].astype(object).where(np.arange(240) < n, "Unknown")
    return few


def test_head_starts_as_a_logistic_regression(pretrained, cells):
    few = with_few_labels(cells)
    found = classify(pretrained, few, freeze_encoder=True)
    z, y = found.get_latent_representation(), few.obs["cell_type"].to_numpy()[:45]
    z = (z - z[:45].mean(axis=0)) / z[:45].std(axis=0, ddof=1)
    expected = LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000).fit(z[:45], y).predict_proba(z)
    logits = found._map_cells(found.module.logits, None, None)
    np.testing.assert_allclose(softmax(logits, axis=1), expected, atol=1e-4)


def test_probe_of_two_classes_and_of_one_without_cells():
    rng = np.random.default_rng(0)
    z, label = rng.normal(size=(40, 3)).astype(np.float32), np.repeat([0, 2], 20)
    z[label == 2] += 1
    weight, bias = linear_probe(torch.as_tensor(z), label, torch.ones(4))
    expected = LogisticRegression(C=0.1, max_iter=2000).fit(z, label).predict_proba(z)
    logits = z @ weight.T + bias
    np.testing.assert_allclose(softmax(logits[:, [0, 2]], axis=1), expected, atol=1e-6)
    assert not weight[[1, 3]].any()
    assert (bias[[1, 3]] == bias.min()).all()


def drawn(pretrained, adata, label, size=0.2):
    """The validation split of a classifier that is made after seed 0."""
    torch.manual_seed(0)
    CellClassifier.from_pretrained(pretrained, adata, labels_key="cell_type")
    return validation_cells(label, size)


def test_few_validation_cells_are_trained_on_in_the_end(pretrained, cells):
    found = classify(pretrained, with_few_labels(cells, 90), epochs=4)
    assert {"calibration_train_loss", "train_loss"} <= set(found.history)
    assert "macro_f1_validation" not in found.history
    assert len(found.history["train_loss"]) == 4


def test_few_validation_cells_calibrate_a_classifier_that_was_not_trained_on_them(pretrained, cells):
    few, label = with_few_labels(cells, 90), cells.obs["cell_type"].cat.codes.to_numpy(np.int64)
    held_out = drawn(pretrained, few, label[:90])
    calibrated = interrupted(pretrained, few, 3, "calibration_")
    logits = calibrated._map_cells(calibrated.module.logits, None, held_out)
    temperature, threshold = calibration(torch.as_tensor(logits), label[held_out], 0.05)
    found = classify(pretrained, few, epochs=4)
    for module in (calibrated.module, found.module):
        assert float(module.temperature) == pytest.approx(temperature, rel=1e-5)
        assert float(module.threshold) == pytest.approx(threshold, rel=1e-5)
    others, order = few.copy(), np.arange(240)
    order[held_out] = held_out[::-1]
    others.X = few.X[order]
    again = interrupted(pretrained, others, 3, "calibration_")
    assert torch.equal(again.module.head.linear.weight, calibrated.module.head.linear.weight)


def test_encoder_and_head_have_their_own_rates(pretrained, cells):
    found = classify(pretrained, cells.copy(), epochs=1, lr_encoder=0.0, lr_head=1e-2)
    assert torch.equal(found.module.encoder.encoder.weight, pretrained.module.encoder.weight)
    still = classify(pretrained, cells.copy(), epochs=1, lr_encoder=1e-12, lr_head=1e-12)
    assert not torch.allclose(found.module.head.linear.weight, still.module.head.linear.weight)


#: enough of 240 cells are held out to choose a state by
CHOOSE = {"validation_size": 0.45}


def test_best_macro_f1_comes_back(pretrained, cells, monkeypatch):
    def knows_nothing(z_nd, label_n, weight_k):
        return np.zeros((3, z_nd.shape[1])), np.zeros(3)

    monkeypatch.setattr("sc_ssl.models.supervised.head.linear_probe", knows_nothing)
    found = classify(pretrained, cells.copy(), epochs=30, freeze_encoder=True, lr_head=3.0, patience=40, **CHOOSE)
    curve = found.history["head_macro_f1_validation"]["head_macro_f1_validation"]
    label = cells.obs["cell_type"].cat.codes.to_numpy()
    held_out = drawn(pretrained, cells.copy(), label, CHOOSE["validation_size"])
    logits = found._map_cells(found.module.logits, cells[held_out].copy(), None)
    assert f1_score(label[held_out], logits.argmax(axis=1), average="macro") == pytest.approx(curve.max())
    assert curve.max() > curve.min()


def test_a_start_that_training_does_not_better_is_kept(pretrained, cells, monkeypatch):
    scores = iter([0.9, 0.5, 0.4])
    monkeypatch.setattr("sc_ssl.models.supervised.fine_tune.f1_score", lambda *args, **kwargs: next(scores))
    found = classify(pretrained, cells.copy(), epochs=2, **CHOOSE)
    start = classify(pretrained, cells.copy(), epochs=2, freeze_encoder=True, freeze_encoder_epochs=0, **CHOOSE)
    pd.testing.assert_frame_equal(found.predict(soft=True), start.predict(soft=True))
    assert list(found.history["macro_f1_validation"]["macro_f1_validation"]) == pytest.approx([0.5, 0.4])


class Interrupt(Callback):
    """Ctrl-C, or an error, at the end of an epoch, of the stages whose history has this prefix."""

    def __init__(self, epoch, prefix="", error=KeyboardInterrupt):
        self.epoch, self.prefix, self.error = epoch, prefix, error

    def on_train_epoch_end(self, trainer, plan):
        if trainer.current_epoch == self.epoch and plan.prefix == self.prefix:
            raise self.error


def interrupted(pretrained, adata, epoch, prefix="", n_epochs=10, **options):
    torch.manual_seed(0)
    found = CellClassifier.from_pretrained(pretrained, adata, labels_key="cell_type")
    with pytest.raises(KeyboardInterrupt):
        found.train(n_epochs, callbacks=[Interrupt(epoch, prefix)], **QUICK | options)
    return found


def assert_usable(found):
    assert found.is_trained
    proba = found.predict(soft=True)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(found.module.center_d, found.get_latent_representation().mean(axis=0), atol=1e-5)


def test_best_state_comes_back_after_an_interruption(pretrained, cells, monkeypatch):
    scores = iter([0.1, 0.9, 0.5, 0.4, 0.3])
    monkeypatch.setattr("sc_ssl.models.supervised.fine_tune.f1_score", lambda *args, **kwargs: next(scores))
    found = interrupted(pretrained, cells.copy(), 3, **CHOOSE)
    assert_usable(found)
    scores = iter([0.1, 0.9])
    one = classify(pretrained, cells.copy(), epochs=1, **CHOOSE)
    pd.testing.assert_frame_equal(found.predict(soft=True), one.predict(soft=True))


@pytest.mark.parametrize("prefix", ["calibration_", ""])
def test_few_labels_are_usable_and_calibrated_after_an_interruption(pretrained, cells, prefix):
    few = with_few_labels(cells, 90)
    found = interrupted(pretrained, few, 3, prefix)
    assert_usable(found)
    assert float(found.module.threshold) > 0
    if not prefix:
        whole = classify(pretrained, few, epochs=10)
        assert float(found.module.temperature) == float(whole.module.temperature)
    before = found.module.sureness()
    found.train(2, **QUICK)  # goes on from there: no cell is left that it has not seen
    assert_usable(found)
    assert found.module.sureness() == before


def test_an_error_leaves_it_untrained(pretrained, cells):
    found = CellClassifier.from_pretrained(pretrained, cells.copy(), labels_key="cell_type")
    for options, error in (({"adapt": "lora"}, ValueError), ({"early_stopping": True}, TypeError)):
        with pytest.raises(error):
            found.train(2, **options, **QUICK)
        assert not found.is_trained
    with pytest.raises(FloatingPointError):
        found.train(2, callbacks=[Interrupt(1, error=FloatingPointError)], **QUICK)
    assert not found.is_trained


@pytest.mark.parametrize(
    ("options", "phase"),
    [(CHOOSE, ""), (CHOOSE | {"freeze_encoder_epochs": 2}, ""), ({}, "calibration_"), ({}, "")],
    ids=["state chosen", "head first", "calibration", "few labels"],
)
def test_the_same_call_finishes_an_interrupted_training(pretrained, cells, tmp_path, options, phase):
    adata = cells.copy() if options else with_few_labels(cells, 90)
    options = options | QUICK | {"checkpoint_dir": tmp_path / "training", "checkpoint_seconds": 0}
    interrupted(pretrained, adata, 3, phase, n_epochs=6, **options)
    finished = classify(pretrained, adata, epochs=6, **options)
    undisturbed = classify(pretrained, adata, epochs=6, **options | {"checkpoint_dir": None})
    pd.testing.assert_frame_equal(finished.predict(soft=True), undisturbed.predict(soft=True), check_exact=True)
    for name, curve in undisturbed.history.items():
        np.testing.assert_array_equal(finished.history[name], curve)


def test_training_goes_on_with_the_same_split(pretrained, cells):
    found = classify(pretrained, cells.copy(), epochs=2)
    split = found._split[1]
    found.train(2, **QUICK)
    assert found._split[1] is split
    found.train(2, validation_size=0.3, **QUICK)
    assert len(found._split[1]) > len(split)


def test_a_probe_is_fitted_anew_when_it_is_all_there_is(pretrained, cells):
    few = with_few_labels(cells, 90)
    found = classify(pretrained, few, freeze_encoder=True, class_weight="squared")
    found.train(freeze_encoder=True, **QUICK)
    balanced = classify(pretrained, few, freeze_encoder=True)
    torch.testing.assert_close(found.module.head.linear.weight, balanced.module.head.linear.weight)


def test_a_large_validation_split_leaves_a_cell_of_each_type():
    held_out = validation_cells(np.repeat([0, 1, 2], 4), 0.9)
    assert len(held_out) == 0  # nine cells are too few to choose by
    label = np.repeat([0, 1, 2], 6)
    assert np.bincount(np.delete(label, validation_cells(label, 0.99))).tolist() == [1, 1, 1]


def test_validation_split_is_stratified_and_spares_rare_types():
    label = np.repeat([0, 1, 2], [50, 10, 2])
    held_out = validation_cells(label, 0.2)
    assert np.bincount(label[held_out], minlength=3).tolist() == [10, 2, 0]
    assert len(validation_cells(label[45:], 0.2)) == 0


def test_a_type_of_one_cell_is_trained_on_and_named(pretrained, cells, caplog):
    rare = cells.copy()
    rare.obs["cell_type"] = rare.obs["cell_type"].astype(object)
    rare.obs.iloc[0, rare.obs.columns.get_loc("cell_type")] = "mast"
    found = CellClassifier.from_pretrained(pretrained, rare, labels_key="cell_type")
    assert found.classes == ["mast", "type_0", "type_1", "type_2"]
    found.train(2, **QUICK)
    assert found.predict(soft=True).shape == (240, 4)


# what is trained further


@pytest.fixture(scope="module")
def transformer(cells):
    torch.manual_seed(0)
    adata = cells.copy()
    models.CellLM.setup_anndata(adata)
    model = models.CellLM(adata, n_latent=16, transformer={"n_layers": 2, "n_heads": 2})
    model.train(2, **QUICK)
    return model


@pytest.mark.parametrize("adapt", ["last", "lora"])
def test_only_the_stated_part_of_a_transformer_is_trained(transformer, cells, tmp_path, adapt):
    options = {"adapt": adapt, "lr_encoder": 1e-3}
    found = classify(transformer, cells.copy(), 3, **options)
    before, after = transformer.module.state_dict(), found.module.encoder.state_dict()
    assert before.keys() == after.keys()
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    weights = {"last": "transformer.blocks.1.mlp.2.weight", "lora": "transformer.blocks.0.attention.qkv.weight"}
    assert weights[adapt] in changed
    allowed = {
        "last": r"transformer\.(blocks\.1|norm)\.",
        "lora": r"transformer\.blocks\.\d\.attention\.(qkv|out)\.weight",
    }
    assert all(re.match(allowed[adapt], name) for name in changed)
    assert all(p.requires_grad for p in found.module.encoder.parameters())
    found.save(tmp_path / "model")
    loaded = CellClassifier.load(tmp_path / "model", cells.copy())
    np.testing.assert_array_equal(loaded.predict(soft=True), found.predict(soft=True))


def test_slots_of_genes_stand_at_the_genes_places(transformer, cells):
    torch.manual_seed(0)
    found = CellClassifier.from_pretrained(transformer, cells.copy(), labels_key="cell_type", reads="gene_slots")
    z = found.get_latent_representation()
    assert z.shape == (240, 97)
    expressed = cells.X.toarray() > 0
    assert not z[:, :96][~expressed].any()
    module = found.module.encoder
    minibatch = next(iter(CellLoader(found._own_cells(), np.arange(5), 5)))
    log_ng = module.normalize.log_expression(minibatch)
    tokens = module.tokens(log_ng)
    with torch.no_grad():
        h_ntd, _ = module.encode(tokens, module.code(tokens, log_ng, minibatch)[0])
        value_nt = found.module.slot(module.transformer.norm(h_ntd))[:, :, 0].clamp(min=0)
    for i in range(5):
        for j in np.flatnonzero(tokens.real_nt[i]):
            assert z[i, tokens.gene_nt[i, j]] == pytest.approx(float(value_nt[i, j + 1]), abs=1e-5)
        assert z[i, 96] == pytest.approx(float(value_nt[i, 0]), abs=1e-5)


def test_slots_of_a_cell_without_genes_do_not_depend_on_the_others(transformer, cells):
    torch.manual_seed(0)
    adata = cells.copy()
    adata.X = sparse.diags((np.arange(240) > 1).astype(np.float32)) @ adata.X
    found = CellClassifier.from_pretrained(transformer, cells.copy(), labels_key="cell_type", reads="gene_slots")
    with torch.no_grad():
        found.module.slot.weight.abs_()
        found.module.slot.bias.fill_(10.0)
    z = found.get_latent_representation(adata)
    np.testing.assert_allclose(found.get_latent_representation(adata, [0]), z[:1], atol=1e-5)
    assert z[0, 96] > 0
    assert not z[0, :96].any()


def test_slots_of_genes_are_trained_saved_and_name_types(transformer, cells, tmp_path):
    found = CellClassifier.from_pretrained(
        transformer, cells.copy(), labels_key="cell_type", reads="gene_slots", n_hidden=(16, 8)
    )
    before = found.module.slot.weight.detach().clone()
    found.train(5, adapt="last", lr_encoder=1e-3, **QUICK)
    assert not torch.equal(found.module.slot.weight, before)
    assert np.mean(found.predict(unknown=None) == cells.obs["cell_type"]) > 0.8
    found.save(tmp_path / "model")
    loaded = CellClassifier.load(tmp_path / "model", cells.copy())
    np.testing.assert_array_equal(loaded.predict(soft=True), found.predict(soft=True))


def test_slots_of_genes_need_tokens_that_are_genes(pretrained, cells):
    with pytest.raises(ValueError, match=r"tokens are genes \(CellLM\), found a ScPretrain"):
        CellClassifier.from_pretrained(pretrained, cells.copy(), labels_key="cell_type", reads="gene_slots")


def test_lora_starts_as_the_encoder_and_adds_a_matrix_of_low_rank(transformer, monkeypatch):
    monkeypatch.setattr("sc_ssl.models.supervised.fine_tune.RANK", 2)
    block = copy.deepcopy(transformer.module.transformer).double()
    layer, weight = block.blocks[0].attention.qkv, block.blocks[0].attention.qkv.weight.detach().clone()
    with adapted(block, "lora"):
        torch.testing.assert_close(layer.weight, weight)
        torch.nn.init.normal_(layer.parametrizations.weight[0].up)
    assert torch.linalg.matrix_rank(layer.weight.detach() - weight) == 2


def test_parts_of_a_transformer_need_one(pretrained, cells):
    with pytest.raises(ValueError, match="adapt='lora' is for encoders with a transformer"):
        classify(pretrained, cells.copy(), 1, adapt="lora")


@pytest.mark.parametrize(
    ("class_weight", "expected"), [("balanced", [5 / 4, 5 / 6]), ("squared", [0.36, 0.16]), (None, [1.0, 1.0])]
)
def test_weights_of_classes(class_weight, expected):
    head = Head(2, (), 2, dropout_rate=0.0)
    head.weigh_classes(torch.tensor([4, 6]), class_weight)
    torch.testing.assert_close(head.class_weight_k, torch.tensor(expected))
