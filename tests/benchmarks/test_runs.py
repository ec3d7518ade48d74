import numpy as np
import pandas as pd
import pytest

from sc_ssl.benchmark import _folder, clustering
from sc_ssl.benchmark.__main__ import main
from sc_ssl.benchmark._data import load
from sc_ssl.benchmark._runs import Runs, kept, markdown, mean_sd


def test_finished_runs_are_not_done_again(tmp_path):
    runs = Runs(tmp_path / "deep" / "runs.csv", ("method", "seed"))
    wanted = [{"method": "a", "seed": seed} for seed in range(3)]
    for run in list(runs.missing(wanted))[:2]:
        runs.add(run | {"ari": 0.5})
    again = Runs(tmp_path / "deep" / "runs.csv", ("method", "seed"))
    assert list(again.missing(wanted)) == [{"method": "a", "seed": 2}]
    assert again.table()["ari"].tolist() == [0.5, 0.5]


def test_the_bar_says_which_run_is_on_and_what_is_left(tmp_path, capsys):
    for run in (runs := Runs(tmp_path / "runs.csv", ("method", "seed"))).missing([{"method": "slow", "seed": 3}]):
        runs.add(run)
    said = capsys.readouterr().err
    assert "slow 3" in said and "1/1" in said
    assert list(runs.missing([{"method": "slow", "seed": 3}])) == []
    assert capsys.readouterr().err == ""


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


def test_the_table_holds_every_row_and_goes_on_where_it_stopped(build_counts, tmp_path, monkeypatch):
    counts = build_counts(n_cells=90, n_genes=120)
    done = []

    def embed(adata, seed):
        done.append(seed)
        return np.log1p(adata.X.toarray()) + seed

    monkeypatch.setattr("sc_ssl.benchmark._data.load", lambda name: counts)
    monkeypatch.setattr(_folder, "load", lambda name: counts)
    monkeypatch.setattr(clustering, "METHODS", {"masksc": embed})
    arguments = ["clustering", "--datasets", "pbmc4k", "--out", str(tmp_path)]
    assert main([*arguments, "--seeds", "1"]) == 0
    assert main([*arguments, "--seeds", "2"]) == 0
    assert done == [0, 1]
    page = (tmp_path / "clustering.md").read_text()
    for row in ("masksc", "pca_best_by_label, 1 of 2 seeds", "supervised, 1 of 2 seeds"):
        assert f"| {row} |" in page
    assert "(0.806)" in page and "seeds 0, 1" in page
    assert (tmp_path / "clustering.png").stat().st_size > 5000


def test_means_and_ranks_over_data_sets(tmp_path):
    ari = {"a": {"masksc": 0.9, "pca_cosine": 0.5, "pca_standard": 0.7}, "b": {"masksc": 0.4, "pca_cosine": 0.6,
           "pca_standard": 0.5}, "c": {"masksc": 0.8, "pca_cosine": 0.7, "pca_standard": 0.1}}  # fmt: skip
    runs = Runs(tmp_path / "clustering.csv", ("dataset", "method", "seed"))
    scores = {"nmi": 0.5, "silhouette": 0.1, "silhouette_common": 0.1, "seconds": 1.0}
    for name, rows in ari.items():
        for row, value in (rows | {"supervised": 1.0}).items():
            runs.add({"dataset": name, "method": row, "seed": 0, "ari": value} | scores)
    runs.add({"dataset": "a", "method": "nmf", "seed": 0, "ari": 0.95} | scores)  # not on the others: not ranked
    lines = clustering.overall(_folder.Folder(tmp_path))
    assert "among masksc, pca_cosine;" in lines[1]
    table = {line.split(" | ")[0].strip("| "): line.strip(" |").split(" | ")[1:] for line in lines[4:]}
    assert list(table) == ["masksc", "pca_cosine", "pca_standard"]
    # masksc is 1st, 3rd and 1st of all, 1st, 2nd and 1st of the methods; at worst 0.4 against 0.6
    assert [float(x) for x in table["masksc"]] == [0.7, 0.5, 1.667, 1.333, -0.2]
    assert float(table["pca_standard"][0]) == 0.433 and table["pca_standard"][3] == ""


def test_two_data_sets_are_not_averaged(tmp_path):
    runs = Runs(tmp_path / "clustering.csv", ("dataset", "method", "seed"))
    for name in ("a", "b"):
        for row in ("masksc", "nmf"):
            runs.add(
                {"dataset": name, "method": row, "seed": 0}
                | dict.fromkeys(("ari", "nmi", "silhouette", "silhouette_common", "seconds"), 0.5)
            )
    assert clustering.overall(_folder.Folder(tmp_path)) == []
