"""A training that was interrupted is finished by the same call, and ends where it would have without."""

import math

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from sc_ssl import models
from sc_ssl.train import plan as plan_module

QUICK = {"batch_size": 40, "enable_progress_bar": False, "accelerator": "cpu"}
SMALL = {
    "n_hidden": 16,
    "transformer": {"n_layers": 1, "n_heads": 2},
    "decoder": {"n_latent": 8},
    "patch_size": 16,
}
BUILDS = {
    "celllm": (models.CellLM, {"n_hidden": 16, "transformer": {"n_layers": 1, "n_heads": 2}}),
    "contrastive_sc": (models.ContrastiveSC, {"n_hidden": [32], "n_latent": 8}),
    "masksc": (models.MaskSC, SMALL),
    "teacher": (models.MaskSC, SMALL | {"target": "global", "teacher": {"n_hidden": [16], "n_latent": 8}}),
    "scpretrain": (models.ScPretrain, {"n_latent": 8, "cells_per_cluster": [20, 40], "recluster_every": 2}),
    "scdeepcluster": (models.ScDeepCluster, {"n_clusters": 3, "n_hidden": [32], "n_latent": 8}),
}


class InterruptAtStep(Callback):
    """Ctrl-C after this many steps, once."""

    def __init__(self, step):
        self.left = step

    def on_train_batch_end(self, *_):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.fixture(params=list(BUILDS))
def build(request):
    model_class, options = BUILDS[request.param]

    def build(counts):
        torch.manual_seed(0)
        model_class.setup_anndata(counts)
        return model_class(counts, **options)

    return build


def interrupted(model, *, step=8, **options):
    with pytest.raises(KeyboardInterrupt):
        model.train(5, callbacks=[InterruptAtStep(step)], **QUICK | options)
    return model


def assert_same_training(found, expected):
    for name, tensor in expected.module.state_dict().items():
        assert torch.equal(found.module.state_dict()[name], tensor), name
    assert found.history.keys() == expected.history.keys()
    for name, frame in expected.history.items():
        np.testing.assert_array_equal(found.history[name], frame, err_msg=name)
    np.testing.assert_array_equal(found.get_latent_representation(), expected.get_latent_representation())


@pytest.mark.parametrize("seconds", [0, 1000], ids=["from the last epoch", "from the start"])
def test_the_same_call_finishes_it_bit_for_bit(build, build_counts, monkeypatch, seconds):
    monkeypatch.setattr(plan_module, "SNAPSHOT_SECONDS", seconds)
    monkeypatch.setattr(plan_module, "SNAPSHOT_PAUSE", math.inf)
    expected = build(build_counts())
    expected.train(5, **QUICK)
    model = interrupted(build(build_counts()))
    assert model.unfinished.n_epochs == (2 if seconds == 0 else 0)
    torch.rand(3)  # whatever the caller does meanwhile
    model.train(5, **QUICK)
    assert model.unfinished is None
    assert_same_training(model, expected)


def test_it_is_finished_after_loading(build, build_counts, monkeypatch, tmp_path):
    monkeypatch.setattr(plan_module, "SNAPSHOT_SECONDS", 0)
    counts = build_counts()
    expected = build(build_counts())
    expected.train(5, **QUICK)
    model = interrupted(build(counts))
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", counts)
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())
    loaded.train(5, **QUICK)
    assert_same_training(loaded, expected)
    loaded.save(tmp_path / "model", overwrite=True)
    assert type(model).load(tmp_path / "model").unfinished is None


def test_validation_cells_and_patience_are_those_of_before(build_counts, monkeypatch):
    monkeypatch.setattr(plan_module, "SNAPSHOT_SECONDS", 0)

    def build():
        counts = build_counts()
        torch.manual_seed(0)
        models.ContrastiveSC.setup_anndata(counts)
        return models.ContrastiveSC(counts, n_hidden=[32], n_latent=8)

    # a rate at which nothing is learnt: patience runs out
    options = {"early_stopping": True, "early_stopping_patience": 3, "plan_kwargs": {"lr": 1e-12}}
    expected = build()
    expected.train(50, **QUICK | options)
    model = build()
    with pytest.raises(KeyboardInterrupt):
        model.train(50, callbacks=[InterruptAtStep(6)], **QUICK | options)
    model.train(50, **QUICK | options)
    assert 3 < len(expected.history["validation_loss"]) < 50
    assert_same_training(model, expected)


def test_other_arguments_start_another_training_from_the_weights_as_they_are(build_counts):
    counts = build_counts()
    models.ContrastiveSC.setup_anndata(counts)
    model = interrupted(models.ContrastiveSC(counts, n_hidden=[32], n_latent=8))
    n_epochs = len(model.history["train_loss"])
    model.train(3, **QUICK)
    assert len(model.history["train_loss"]) == n_epochs + 3


def test_it_survives_being_interrupted_again(build, build_counts, monkeypatch):
    monkeypatch.setattr(plan_module, "SNAPSHOT_SECONDS", 0)
    expected = build(build_counts())
    expected.train(5, **QUICK)
    model = interrupted(interrupted(build(build_counts()), step=5), step=4)
    model.train(5, **QUICK)
    assert_same_training(model, expected)
