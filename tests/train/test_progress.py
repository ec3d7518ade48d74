"""Progress: one named bar in a terminal or a notebook, plain lines elsewhere, nothing for who wants none."""

import io
import logging

import pytest
import scanpy as sc

from sc_ssl._logging import logger
from sc_ssl.models import ContrastiveSC
from sc_ssl.train import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def model(counts):
    ContrastiveSC.setup_anndata(counts)
    return ContrastiveSC(counts, n_hidden=(8,), n_latent=4)


def train(model, **options):
    model.train(accelerator="cpu", batch_size=40, **{"max_epochs": 3, **options})


def test_a_log_has_lines_without_control_characters(model, caplog, capsys):
    train(model)
    assert caplog.messages[-1].startswith("contrastive_sc: epoch 3/3, loss ")
    said = capsys.readouterr()
    assert "\r" not in said.out + said.err


def test_a_terminal_has_one_bar_with_the_name_and_the_loss(model, monkeypatch, caplog):
    monkeypatch.setattr("sys.stderr", Terminal())
    train(model)
    shown = progress.sys.stderr.getvalue()
    assert "contrastive_sc: epoch 1/3" in shown and "contrastive_sc: epoch 3/3, loss " in shown
    assert "v_num" not in shown and "100%" in shown
    assert not [line for line in caplog.messages if "epoch" in line]


def test_a_bar_that_early_stopping_ends_is_full_and_green(model, monkeypatch, caplog, capsys):
    bars = []
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setattr(
        progress, "open_bar", lambda open_bar=progress.open_bar, **o: bars.append(open_bar(**o)) or bars[-1]
    )
    train(model, max_epochs=50, early_stopping=True, early_stopping_patience=1, early_stopping_min_delta=100.0)
    (bar,) = bars
    assert bar.n == bar.total and bar.colour == "green"
    assert caplog.messages[-1] == "contrastive_sc: stopped early, after epoch 2 of 50."
    assert capsys.readouterr().out == ""


@pytest.fixture
def verbosity():
    """Scanpy's, set back after the test."""
    before = sc.settings.verbosity
    yield
    sc.settings.verbosity = before


@pytest.mark.parametrize("quiet", ["scanpy", "logging", "argument"])
def test_nothing_is_shown_to_who_wants_none(model, quiet, monkeypatch, caplog, verbosity):
    monkeypatch.setattr("sys.stderr", Terminal())
    if quiet == "scanpy":
        sc.settings.verbosity = 0
    elif quiet == "logging":
        caplog.set_level(logging.WARNING, logger="sc_ssl")
    train(model, enable_progress_bar=quiet != "argument")
    assert progress.sys.stderr.getvalue() == "" and not caplog.messages


def test_a_long_training_is_estimated_after_its_first_epoch(model, monkeypatch, caplog):
    monkeypatch.setattr(progress, "LONG", 0.0)
    train(model)
    estimates = [line for line in caplog.messages if "will take about" in line]
    assert len(estimates) == 1
    assert estimates[0].startswith("contrastive_sc: 2 more epochs will take about ")


def test_other_long_work_has_a_bar_too(monkeypatch, capsys, caplog):
    assert list(progress.tracked(range(3), "clusters")) == [0, 1, 2]
    assert not caplog.messages and not capsys.readouterr().err
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    assert list(progress.tracked("ab", "clusters")) == ["a", "b"]
    assert caplog.messages == ["clusters: 1/2", "clusters: 2/2"]
    monkeypatch.setattr("sys.stderr", Terminal())
    assert list(progress.tracked(range(3), "clusters")) == [0, 1, 2]
    assert "clusters: 3/3 |" in progress.sys.stderr.getvalue() and "100%" in progress.sys.stderr.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(0.83, "0.8 s"), (21.2, "21 s"), (240, "4 min"), (9000, "2.5 h")])
def test_durations_are_short(seconds, text):
    assert progress.duration(seconds) == text


def test_lines_go_to_the_handlers_of_the_user_or_to_stderr_not_to_both(monkeypatch, capsys):
    root, seen = logging.getLogger(), io.StringIO()
    monkeypatch.setattr(root, "handlers", [])
    logger.info("to stderr")
    assert capsys.readouterr().err == "to stderr\n"
    monkeypatch.setattr(root, "handlers", [logging.StreamHandler(seen)])
    logger.info("to the handler")
    assert capsys.readouterr().err == "" and seen.getvalue() == "to the handler\n"
