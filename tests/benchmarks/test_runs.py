import numpy as np
import pandas as pd
import pytest

from benchmarks.quality.__main__ import main
from benchmarks.quality.data import load
from benchmarks.quality.page import markdown, mean_sd
from benchmarks.quality.runs import Runs, chosen, grid, kept


def test_finished_runs_are_not_done_again(tmp_path):
    runs = Runs(tmp_path / "deep" / "runs.csv", ("method", "seed"))
    wanted = [{"method": "a", "seed": seed} for seed in range(3)]
    for run in list(runs.missing(wanted))[:2]:
        runs.add(run | {"ari": 0.5})
    again = Runs(tmp_path / "deep" / "runs.csv", ("method", "seed"))
    assert list(again.missing(wanted)) == [{"method": "a", "seed": 2}]
    assert again.table()["ari"].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("kept", [0, 3, 14, 20, 26])
def test_a_run_that_was_killed_while_it_was_written_is_not_finished(tmp_path, kept):
    runs = Runs(tmp_path / "runs.csv", ("method", "seed"))
    wanted = [{"method": "a", "seed": seed} for seed in range(2)]
    for run in wanted:
        runs.add(run | {"ari": 0.123456})
    whole = runs.path.read_bytes()
    runs.path.write_bytes(whole[: len(whole) - 1 - kept])
    done = runs.fill(wanted, lambda this: {"ari": 0.123456})
    assert done["ari"].tolist() == [0.123456, 0.123456]
    assert runs.path.read_bytes() == whole


@pytest.mark.parametrize("name", ["../elsewhere", "..", ""])
def test_names_of_data_sets_lead_nowhere_else(tmp_path, capsys, name):
    with pytest.raises(SystemExit):
        main(["integration", "--datasets", name, "--out", str(tmp_path)])
    assert "named by the stem of a file" in capsys.readouterr().err


def test_the_bar_says_which_run_is_on_and_what_is_left(tmp_path, capsys):
    for run in (runs := Runs(tmp_path / "runs.csv", ("method", "seed"))).missing([{"method": "slow", "seed": 3}]):
        runs.add(run)
    said = capsys.readouterr().err
    assert "slow 3" in said and "1/1" in said
    assert list(runs.missing([{"method": "slow", "seed": 3}])) == []
    assert capsys.readouterr().err == ""


def test_a_run_is_appended_under_the_columns_of_the_file(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("seconds,seed,method,ari\n1.5,0,a,0.5\n")
    runs = Runs(path, ("method", "seed")).fill(grid({"method": "ab", "seed": [0]}), lambda this: {"ari": 0.7})
    assert runs.loc[1, ["method", "seed", "ari"]].tolist() == ["b", 0, 0.7] and np.isnan(runs.loc[1, "seconds"])
    with pytest.raises(ValueError, match="has the columns seconds, seed, method, ari, but the run has 'nmi' too"):
        Runs(path, ("method", "seed")).add({"method": "c", "seed": 0, "nmi": 1})


def test_a_grid_varies_along_its_order_and_keeps_its_columns():
    found = grid({"method": "ab", "seed": [0, 1]}, ("seed", "method"))
    assert [tuple(run.items()) for run in found] == [
        (("method", method), ("seed", seed)) for seed in (0, 1) for method in "ab"
    ]


def test_rows_on_demand_are_run_when_they_are_named():
    assert list(chosen({"a": 1, "b": 2}, {"slow": 3}, None)) == ["a", "b"]
    assert list(chosen({"a": 1, "b": 2}, {"slow": 3}, ["slow", "b"])) == ["b", "slow"]


def test_a_kept_array_is_made_once(tmp_path):
    path = tmp_path / "deep" / "array.npy"
    first = kept(path, lambda: np.arange(3))
    again = kept(path, lambda: pytest.fail("made again"))
    np.testing.assert_array_equal(first, again)
    assert [file.name for file in path.parent.iterdir()] == ["array.npy"]


def test_a_markdown_table():
    table = pd.DataFrame({"ari": [0.5], "k": [3]}, index=["a"])
    assert markdown(table, "row") == ["| row | ari | k |", "|---|---|---|", "| a | 0.500 | 3 |"]


def test_mean_and_spread_over_seeds():
    assert mean_sd(pd.Series([0.1, 0.3])) == "0.200 ± 0.100"
    assert mean_sd(pd.Series([0.25])) == "0.250"


def test_a_data_set_that_is_nowhere_is_named():
    with pytest.raises(FileNotFoundError, match="'absent' is no function of sc_ssl.datasets .* absent.h5ad"):
        load("absent")


def test_a_file_without_types_says_what_it_has(build_counts, tmp_path, monkeypatch):
    adata = build_counts(20)
    del adata.obs["cell_type"]
    adata.write_h5ad(tmp_path / "bare.h5ad")
    monkeypatch.setenv("SC_SSL_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"bare should have the cells' types in obs\['cell_type'\].*donor"):
        load("bare")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["clustering", "--datasets", "absent"], "'absent' is no function"),
        (["masksc", "--table", "1", "--datasets", "pbmc68k_reduced", "absent"], "'absent' is no function"),
        (
            ["masksc", "--datasets", "pbmc68k_reduced", "--methods", "maskcs"],
            "no row is named maskcs. There are: masksc",
        ),
        (["masksc", "--table", "3"], "invalid choice: 3"),
        (["clustering", "--seeds", "0"], "--seeds is at least 1, found 0"),
    ],
)
def test_what_cannot_be_run_is_one_error_before_anything_is_trained(arguments, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        main([*arguments, "--out", str(tmp_path / "out")])
    assert error.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
