"""What every embedding model promises of its training."""

import copy
import signal

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LambdaCallback
from small_models import QUICK, build, fit, minibatches
from torch import nn
from torch.optim.swa_utils import AveragedModel


class Interrupt(Callback):
    """Ctrl-C in the second epoch of the fit of one module."""

    def __init__(self, module):
        self.module = module

    def on_train_epoch_start(self, trainer, plan):
        if plan.module is self.module and trainer.current_epoch == 1:
            raise KeyboardInterrupt


class Modes(Callback):
    """Notes which sub-modules of a module are in train mode at the end of an epoch of its fit."""

    def __init__(self, module):
        self.module, self.training = module, {}

    def on_train_batch_end(self, trainer, plan, *_):
        if plan.module is self.module:
            self.training = {name: part.training for name, part in self.module.named_modules()}


@pytest.mark.parametrize("n_cells", [12, 41])  # less than a minibatch; a cell more than one
def test_any_number_of_cells_trains(model_class, build_counts, n_cells):
    model = fit(model_class, build_counts(n_cells))
    assert np.isfinite(model.get_latent_representation()).all()
    assert np.isfinite(model.history["train_loss"].to_numpy()).all()


def test_validation_split_of_any_rest_trains(model_class, build_counts):
    model = fit(model_class, build_counts(51), validation_size=0.2, batch_size=10)  # 40 to train, 11 to validate
    assert np.isfinite(model.history["validation_loss"].to_numpy()).all()


def test_history_has_a_value_an_epoch_for_each_term_and_no_elbo(model_class, counts):
    model = fit(model_class, counts, max_epochs=3, validation_size=0.2)
    terms = model.module.loss_terms(next(minibatches(model)))
    expected = {"train_loss", "validation_loss"} | {f"{t}_{split}" for t in terms for split in ("train", "validation")}
    assert expected <= set(model.history)
    assert {len(model.history[name]) for name in expected} == {3}
    assert not [name for name in model.history if "elbo" in name]


def test_without_validation_there_is_no_validation_loss(trained):
    assert not [name for name in trained.history if "validation" in name]


def test_early_stopping_follows_the_validation_loss(model_class, counts):
    hopeless = {"early_stopping_patience": 1, "early_stopping_min_delta": 1e9}
    model = fit(model_class, counts, max_epochs=20, early_stopping=True, **hopeless)
    assert 1 <= len(model.history["validation_loss"]) <= 3


def test_early_stopping_goes_on_while_the_validation_loss_falls(model_class, counts):
    model = fit(model_class, counts, max_epochs=6, early_stopping=True, early_stopping_patience=6)
    assert len(model.history["validation_loss"]) == 6


@pytest.fixture(scope="module")
def trained_again(model_class, cells):
    """A model after a second training: it, its weights before, and which parts were in train mode."""
    model = fit(model_class, cells.copy())
    before, modes = copy.deepcopy(model.module.state_dict()), Modes(model.module)
    model.train(2, callbacks=[modes], **QUICK)
    return model, before, modes.training


def test_second_training_moves_weights_in_train_mode(trained_again):
    model, before, training = trained_again
    trainable = {name for name, p in model.module.named_parameters() if p.requires_grad}
    after = model.module.state_dict()
    assert training[""]
    assert all(not torch.equal(before[name], after[name]) for name in trainable)
    assert len(model.history["train_loss"]) == 4


def test_second_training_moves_batch_statistics(trained_again):
    model, before, training = trained_again
    norms = {name: part for name, part in model.module.named_modules() if isinstance(part, nn.BatchNorm1d)}
    norms = {name: part for name, part in norms.items() if all(p.requires_grad for p in part.parameters())}
    assert all(training[name] for name in norms)
    assert not [name for name, norm in norms.items() if torch.equal(norm.running_mean, before[f"{name}.running_mean"])]


def test_frozen_parts_stay_in_eval_mode_and_unchanged(trained_again):
    model, before, training = trained_again
    frozen = {
        name: part
        for name, part in model.module.named_modules()
        if name and list(part.parameters()) and not any(p.requires_grad for p in part.parameters())
    }
    averages = [name for name, part in model.module.named_modules() if isinstance(part, AveragedModel)]
    assert not [name for name in frozen if training[name]]
    for name, part in frozen.items():
        if name.startswith(tuple(averages)):  # no gradient, but it follows
            continue
        for key, tensor in part.state_dict().items():
            assert torch.equal(tensor, before[f"{name}.{key}"]), f"{name}.{key}"


def test_training_leaves_the_module_in_eval_mode(trained):
    assert not [name for name, part in trained.module.named_modules() if part.training]


def test_interrupted_training_leaves_a_usable_model(model_class, counts):
    model = build(model_class, counts)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        model.train(5, callbacks=[Interrupt(model.module)], **QUICK)
    assert signal.getsignal(signal.SIGINT) is handler
    assert model.is_trained_
    assert len(model.history["train_loss"]) >= 1
    assert not model.module.training
    assert np.isfinite(model.get_latent_representation()).all()
    model.train(1, **QUICK)


def test_error_in_training_restores_the_signal_handler_and_is_raised(model_class, counts):
    class Fail(Callback):
        def on_train_epoch_start(self, trainer, plan):
            raise RuntimeError("no luck")

    model = build(model_class, counts)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError, match="no luck"):
        model.train(2, callbacks=[Fail()], **QUICK)
    assert signal.getsignal(signal.SIGINT) is handler
    assert not model.is_trained_


def test_two_devices_are_refused(model_class, counts):
    with pytest.raises(ValueError, match="one device, found devices=2"):
        build(model_class, counts).train(1, devices=2, **QUICK)


def test_a_loss_that_is_no_number_stops_the_run(model_class, counts, monkeypatch):
    model = build(model_class, counts)
    for part in {"loss_terms", "contrast"} & set(dir(model.module)):  # of the second, a plan may make the loss itself
        monkeypatch.setattr(
            model.module, part, lambda _: {"x": sum(p.sum() for p in model.module.parameters()) * torch.nan}
        )
    with pytest.raises(FloatingPointError, match="epoch 1; lower the learning rate"):
        model.train(3, **QUICK)


def test_the_number_of_threads_is_our_own_and_the_callers_comes_back(model_class, trained, embedding, cells):
    seen, n_threads = [], torch.get_num_threads()
    note = LambdaCallback(on_train_batch_end=lambda *_: seen.append(torch.get_num_threads()))
    torch.set_num_threads(2)
    try:
        model = fit(model_class, cells.copy(), callbacks=[note])
        assert set(seen) == {1}
        np.testing.assert_array_equal(model.get_latent_representation(), embedding)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(n_threads)
