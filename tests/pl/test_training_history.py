from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from matplotlib.figure import Figure

from sc_ssl import pl

CURVES = {
    "train_loss": [3.0, 2.0, 1.5],
    "zinb_train": [2.0, 1.5, 1.2],
    "zinb_validation": [2.5, 1.8, 1.6],
    "cluster_train": [1.0, 0.5, 0.3],
    "validation_loss": [3.5, 2.5, 2.0],
    "train_loss_step": [4.0] * 30,
}
AS_FRAMES = {
    name: pd.DataFrame({name: values}, index=pd.RangeIndex(len(values), name="epoch"))
    for name, values in CURVES.items()
}
AS_ARRAYS = {name: np.array(values) for name, values in CURVES.items()}


def lines(ax):
    return {line.get_label(): line.get_ydata().tolist() for line in ax.lines}


@pytest.mark.parametrize("source", [SimpleNamespace(history=AS_FRAMES), AS_FRAMES, AS_ARRAYS])
def test_one_panel_per_term_with_training_and_validation(source):
    axes = pl.training_history(source, show=False)
    assert [ax.get_ylabel() for ax in axes] == ["loss", "zinb", "cluster"]
    assert lines(axes[0]) == {"train": CURVES["train_loss"], "validation": CURVES["validation_loss"]}
    assert lines(axes[1]) == {"train": CURVES["zinb_train"], "validation": CURVES["zinb_validation"]}
    assert lines(axes[2]) == {"train": CURVES["cluster_train"]}


def test_a_single_term_is_not_shown_again_as_its_sum():
    ax = pl.training_history({"mse_train": [2.0, 1.0], "train_loss": [2.0, 1.0]}, show=False)
    assert ax.get_ylabel() == "loss" and len(ax.lines) == 1


@pytest.mark.parametrize(
    ("keys", "expected"),
    [("zinb", ["zinb"]), (["zinb_validation"], ["zinb"]), (["cluster", "loss"], ["cluster", "loss"])],
)
def test_keys_choose_terms_or_names(keys, expected):
    axes = np.ravel(pl.training_history(AS_FRAMES, keys=keys, show=False))
    assert [ax.get_ylabel() for ax in axes] == expected


def test_validation_every_few_epochs_keeps_its_epochs():
    values = pd.DataFrame({"validation_loss": [2.0, 1.0]}, index=[4, 9])
    ax = pl.training_history({"train_loss": np.ones(10), "validation_loss": values}, show=False)
    assert ax.lines[1].get_xdata().tolist() == [4, 9]
    ax = pl.training_history({"train_loss": [1.0, np.nan, 0.5]}, show=False)
    assert ax.lines[0].get_xdata().tolist() == [0, 2]


def test_phases_are_panels_of_their_own():
    history = {"pretrain_train_loss": [2.0, 1.0], "pretrain_validation_loss": [2.5, 1.5], "train_loss": [1.0, 0.5]}
    axes = pl.training_history(history, show=False)
    assert [ax.get_ylabel() for ax in axes] == ["loss", "pretrain_loss"]
    assert set(lines(axes[1])) == {"train", "validation"}


def test_given_axes_take_all_terms():
    figure, ax = plt.subplots()
    assert pl.training_history(AS_FRAMES, ax=ax, show=False) is ax
    assert plt.get_fignums() == [figure.number]
    assert set(lines(ax)) == {
        "loss (train)",
        "loss (validation)",
        "zinb (train)",
        "zinb (validation)",
        "cluster (train)",
    }


def test_one_epoch_is_a_visible_point():
    ax = pl.training_history({"train_loss": [1.0]}, show=False)
    assert ax.lines[0].get_marker() == "o"


@pytest.fixture
def autoshow():
    """Set scanpy's switch, and set it back; monkeypatch cannot, because it has no deleter."""
    before = sc.settings.autoshow
    yield lambda value: setattr(sc.settings, "autoshow", value)
    sc.settings.autoshow = before


@pytest.mark.parametrize(("show", "default", "expected"), [(None, True, 1), (None, False, 0), (True, False, 1)])
def test_show_follows_scanpy(show, default, expected, autoshow, monkeypatch):
    calls = []
    monkeypatch.setattr(plt, "show", lambda: calls.append(1))
    autoshow(default)
    result = pl.training_history(AS_FRAMES, show=show)
    assert len(calls) == expected and (result is None) == bool(expected)


def test_return_fig_is_the_figure():
    assert isinstance(pl.training_history(AS_FRAMES, return_fig=True), Figure)


@pytest.mark.parametrize("source", [SimpleNamespace(history=None), {}])
def test_an_untrained_model_is_told_so(source):
    with pytest.raises(ValueError, match=r"Train the model first"):
        pl.training_history(source, show=False)


def test_an_unknown_key_names_those_that_exist():
    with pytest.raises(KeyError, match=r"'elbo' is not in .* zinb_validation"):
        pl.training_history(AS_FRAMES, keys="elbo", show=False)
    assert not plt.get_fignums()


def test_something_else_is_refused():
    with pytest.raises(TypeError, match="a model or its history"):
        pl.training_history([1, 2, 3], show=False)


def test_a_history_is_read_from_the_cells_by_its_name_or_where_it_is_the_only_one():
    done = {"params": {}, "history": {"train_loss": np.array([3.0, 2.0])}}
    cells = AnnData(uns={"masksc": done, "pca_cosine": {"params": {}, "history": {}}, "neighbors": {"params": {}}})
    for options in ({}, {"key": "masksc"}):
        ax = pl.training_history(cells, show=False, **options)
        assert list(ax.lines[0].get_ydata()) == [3, 2]
    with pytest.raises(KeyError, match="no training history named 'mae'; it has 'masksc'"):
        pl.training_history(cells, key="mae")
    cells.uns["mae"] = done
    with pytest.raises(ValueError, match=r"name the result by key=, .* 'masksc', 'mae'"):
        pl.training_history(cells)
    with pytest.raises(ValueError, match="none: run sc_ssl.tl.embed first"):
        pl.training_history(AnnData())
