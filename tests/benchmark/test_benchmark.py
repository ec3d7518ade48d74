import numpy as np
import pandas as pd
import pytest

from sc_ssl.benchmark import clustering
from sc_ssl.benchmark.__main__ import main
from sc_ssl.benchmark._data import load
from sc_ssl.benchmark._runs import Runs, mean_sd


def test_finished_runs_are_not_done_again(tmp_path):
    runs = Runs(tmp_path / "deep" / "runs.csv", ("method", "seed"))
    wanted = [{"method": "a", "seed": seed} for seed in range(3)]
    for run in list(runs.missing(wanted))[:2]:
        runs.add(run | {"ari": 0.5})
    again = Runs(tmp_path / "deep" / "runs.csv", ("method", "seed"))
    assert list(again.missing(wanted)) == [{"method": "a", "seed": 2}]
    assert again.table()["ari"].tolist() == [0.5, 0.5]


def test_mean_and_spread_over_seeds():
    assert mean_sd(pd.Series([0.1, 0.3])) == "0.200 ± 0.100"
    assert mean_sd(pd.Series([0.25])) == "0.250"


def test_a_data_set_that_is_nowhere_is_named():
    with pytest.raises(FileNotFoundError, match="'absent' is no function of sc_ssl.datasets .* absent.h5ad"):
        load("absent")


def test_the_table_holds_every_row_and_goes_on_where_it_stopped(build_counts, tmp_path, monkeypatch, capsys):
    counts = build_counts(n_cells=90, n_genes=120)
    done = []

    def embed(adata, seed):
        done.append(seed)
        return np.log1p(adata.X.toarray()) + seed

    monkeypatch.setattr(clustering, "load", lambda name: counts)
    monkeypatch.setattr(clustering, "METHODS", {"log counts": embed})
    arguments = ["clustering", "--datasets", "pbmc4k", "--out", str(tmp_path)]
    assert main([*arguments, "--seeds", "1"]) == 0
    assert main([*arguments, "--seeds", "2"]) == 0
    assert done == [0, 1]
    page = (tmp_path / "clustering.md").read_text()
    for row in ("log counts", "pca_best_by_label", "supervised", "mask-sc (paper)"):
        assert f"| {row} |" in page
    assert "| 0.806 |" in page and "seeds 0, 1" in page
    assert (tmp_path / "clustering.png").stat().st_size > 5000
