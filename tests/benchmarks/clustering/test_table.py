import numpy as np

from benchmarks.quality import data
from benchmarks.quality.__main__ import main
from benchmarks.quality.clustering import folder, methods, table
from benchmarks.quality.runs import Runs


def test_the_table_holds_every_row_and_goes_on_where_it_stopped(build_counts, tmp_path, monkeypatch):
    counts = build_counts(n_cells=90, n_genes=120)
    done = []

    def embed(adata, seed):
        done.append(seed)
        return np.log1p(adata.X.toarray()) + seed

    monkeypatch.setattr(data, "load", lambda name: counts)
    monkeypatch.setattr(folder, "load", lambda name: counts)
    monkeypatch.setattr(methods, "METHODS", {"masksc": embed})
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
    lines = table.overall(folder.Folder(tmp_path))
    assert "among masksc, pca_cosine;" in lines[1]
    columns = {line.split(" | ")[0].strip("| "): line.strip(" |").split(" | ")[1:] for line in lines[4:]}
    assert list(columns) == ["masksc", "pca_cosine", "pca_standard"]
    # masksc is 1st, 3rd and 1st of all, 1st, 2nd and 1st of the methods; at worst 0.4 against 0.6
    assert [float(x) for x in columns["masksc"]] == [0.7, 0.5, 1.667, 1.333, -0.2]
    assert float(columns["pca_standard"][0]) == 0.433 and columns["pca_standard"][3] == ""


def test_two_data_sets_are_not_averaged(tmp_path):
    runs = Runs(tmp_path / "clustering.csv", ("dataset", "method", "seed"))
    for name in ("a", "b"):
        for row in ("masksc", "nmf"):
            runs.add(
                {"dataset": name, "method": row, "seed": 0}
                | dict.fromkeys(("ari", "nmi", "silhouette", "silhouette_common", "seconds"), 0.5)
            )
    assert table.overall(folder.Folder(tmp_path)) == []
