"""Arguments of a training are checked once, before any work."""

import numpy as np
import pytest
from lightning.pytorch.callbacks import EarlyStopping
from small_models import QUICK, assert_unchanged, build

from sc_ssl.models import MaskedAutoencoder
from sc_ssl.tl import annotate, embed, predict_modality

UNKNOWN = {
    "lr": "plan_kwargs",
    "weight_decay": "plan_kwargs",
    "train_size": "validation_size",
    "use_gpu": "accelerator",
    "n_epochs": "max_epochs",
    "batchsize": "did you mean 'batch_size'",
    "earlystopping": "did you mean 'early_stopping'",
}
BAD = {
    "validation_size": [2, 10, 1.5, -0.1, 1.0, float("nan"), "0.1", True],
    "max_epochs": [0, -1, 2.5, "3", True],
    "batch_size": [0, 1, 1.5, "64"],
    "devices": [2, [0, 1]],
}


@pytest.mark.parametrize(("name", "remedy"), UNKNOWN.items())
def test_an_argument_that_there_is_not_names_where_it_belongs(counts, name, remedy):
    model, before = build(MaskedAutoencoder, counts.copy()), counts.copy()
    with pytest.raises(TypeError, match=f"no argument {name!r}.*{remedy}"):
        model.train(2, **QUICK, **{name: 1})
    with pytest.raises(TypeError, match=remedy):
        embed(counts, "mae", train_kwargs={**QUICK, name: 1})
    assert_unchanged(counts, before)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_value_out_of_range_is_refused_before_any_work(counts, name, value):
    before = counts.copy()
    with pytest.raises((TypeError, ValueError), match=name):
        embed(counts, "mae", train_kwargs={**QUICK, name: value})
    with pytest.raises((TypeError, ValueError), match=name):
        build(MaskedAutoencoder, counts.copy()).train(**{"max_epochs": 2} | QUICK | {name: value})
    assert_unchanged(counts, before)


def test_an_unknown_setting_of_the_plan_is_named(counts):
    with pytest.raises(TypeError, match=r"plan_kwargs has no argument 'learning_rate'; here it is plan_kwargs=\{'lr'"):
        embed(counts, "mae", train_kwargs={**QUICK, "plan_kwargs": {"learning_rate": 1e-3}})


@pytest.mark.parametrize("call", [annotate, predict_modality])
def test_other_tools_check_their_training_too(counts, build_counts, call):
    arguments = (build_counts(seed=1), "cell_type") if call is annotate else ("protein",)
    with pytest.raises(TypeError, match="train_size.*validation_size"):
        call(counts, *arguments, train_kwargs={"train_size": 0.9})


def test_whole_numbers_may_be_written_with_a_point_or_by_numpy(counts):
    embed(counts, "mae", max_epochs=2.0, train_kwargs={**QUICK, "batch_size": np.int64(30)})
    assert len(counts.uns["mae"]["history"]["train_loss"]) == 2


def test_a_share_that_leaves_no_cells_to_train_on_is_named(counts):
    with pytest.raises(ValueError, match="validation_size=0.999 holds out 120 of 120 cells"):
        embed(counts, "mae", train_kwargs={**QUICK, "validation_size": 0.999})


def test_early_stopping_waits_for_a_part_of_the_epochs_and_needs_cells_held_out(counts):
    stops = {**QUICK, "early_stopping": True, "early_stopping_min_delta": 1e9}
    embed(counts, "mae", max_epochs=20, train_kwargs=stops)
    assert len(counts.uns["mae"]["history"]["validation_loss"]) == 6
    with pytest.raises(ValueError, match="found validation_size=0; .*early_stopping_monitor='train_loss'"):
        embed(counts, "mae", key_added="again", train_kwargs={**stops, "validation_size": 0})


def test_a_callback_of_the_user_stops_on_the_loss_of_training(counts):
    stop = EarlyStopping("train_loss", patience=2, min_delta=1e9, check_on_train_epoch_end=True)
    embed(counts, "mae", max_epochs=20, train_kwargs={**QUICK, "callbacks": [stop]})
    assert len(counts.uns["mae"]["history"]["train_loss"]) == 3


def test_a_training_without_a_step_trains_nothing(counts):
    model = build(MaskedAutoencoder, counts)
    with pytest.raises(ValueError, match="took no step"):
        model.train(2, **QUICK, max_steps=0)
    assert not model.is_trained
