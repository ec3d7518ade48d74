import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from benchmarks.quality import data
from benchmarks.quality.__main__ import main
from benchmarks.quality.clustering import n_clusters
from benchmarks.quality.clustering.criteria import CRITERIA, Judged, modularity
from sc_ssl import tl
from sc_ssl.metrics import kmeans


@pytest.fixture(scope="module")
def groups():
    """Four groups in three dimensions, (160, 3)."""
    center = np.array([[0, 0, 0], [8, 0, 0], [0, 8, 0], [0, 0, 8]])
    return (center.repeat(40, axis=0) + np.random.default_rng(0).normal(size=(160, 3))).astype(np.float32)


@pytest.fixture(scope="module")
def curve(groups):
    judged = Judged(groups, 0)
    return pd.DataFrame({k: judged.at(k) for k in range(2, 9)}).T


@pytest.mark.parametrize("criterion", list(CRITERIA))
def test_every_criterion_counts_groups_that_lie_apart(curve, criterion):
    if criterion == "bic":  # here diagonal components cut up no group either
        assert curve["bic"].idxmin() == 4
    assert CRITERIA[criterion](curve) == 4


def test_the_default_criterion_is_that_of_the_package(curve, groups):
    cells = AnnData(obsm={"X_z": groups})
    tl.cluster(cells, "X_z", k_range=curve.index)
    ours = (curve["silhouette"] + curve["modularity"]) / 2
    np.testing.assert_allclose(ours, cells.uns["z_cluster"]["curve"]["criterion"], atol=0.03)
    np.testing.assert_allclose(curve["stability"], cells.uns["z_cluster"]["curve"]["stability"], atol=0.25)
    assert list(n_clusters.default_range(160)) == list(range(2, 17))


def test_modularity_is_the_weight_inside_less_the_expected(groups):
    graph_nn, label_n = Judged(groups, 0).graph_nn, kmeans(groups, 4)
    weight_nn = graph_nn.toarray()
    degree_n, total = weight_nn.sum(axis=1), weight_nn.sum()
    same_nn = label_n[:, None] == label_n
    expected = ((weight_nn / total - np.outer(degree_n, degree_n) / total**2) * same_nn).sum()
    np.testing.assert_allclose(modularity(graph_nn, label_n), expected, rtol=1e-5)


def test_the_gap_statistic_takes_the_first_number_within_one_error_of_the_next():
    gap = pd.DataFrame({"gap": [0.1, 0.5, 0.55, 0.4], "gap_se": [0.0, 0.1, 0.1, 0.1]}, index=[2, 3, 4, 5])
    assert CRITERIA["gap"](gap) == 3
    assert CRITERIA["gap"](gap.assign(gap=[0, 1, 2, 3])) == 5


def test_a_data_set_that_is_left_out_has_no_say():
    rows = [
        ("a", "good on a", 1.0),
        ("a", "good on the others", 0.0),
        *(
            (name, criterion, ari)
            for name in "bc"
            for criterion, ari in (("good on a", 0.4), ("good on the others", 0.6))
        ),
        ("pbmc4k", "good on a", 100.0),
    ]
    choices = pd.DataFrame(rows, columns=["dataset", "criterion", "ari"])
    found = n_clusters.left_out(choices)
    assert found.loc["a"].tolist() == ["good on the others", 0.0]
    assert found.loc["b"].tolist() == ["good on a", 0.4]


def test_the_page_and_figure_are_written_and_runs_go_on(build_counts, tmp_path, monkeypatch):
    done = []

    def embed(adata, seed):
        done.append(seed)
        return np.log1p(adata.X.toarray())

    cells = {"some": build_counts(60, seed=1), "more": build_counts(50, seed=2), "pbmc4k": build_counts(70, seed=3)}
    monkeypatch.setattr(n_clusters, "_cells", cells.get)
    monkeypatch.setattr(data, "load", cells.__getitem__)
    monkeypatch.setattr(n_clusters, "METHODS", {"log counts": embed})
    arguments = ["n_clusters", "--datasets", *cells, "--seeds", "1", "--methods", "log counts", "--out", str(tmp_path)]
    assert main(arguments) == 0
    runs = pd.read_csv(tmp_path / "n_clusters.csv")
    assert runs.groupby("dataset")["n_clusters"].max().to_dict() == {"some": 6, "more": 5, "pbmc4k": 7}
    assert main(arguments) == 0
    assert done == [0, 0, 0] and len(pd.read_csv(tmp_path / "n_clusters.csv")) == len(runs)
    page = (tmp_path / "n_clusters.md").read_text()
    assert "| silhouette |" in page and "| pbmc4k |" in page and "Left out in turn" in page
    assert (tmp_path / "n_clusters.png").stat().st_size > 5000
