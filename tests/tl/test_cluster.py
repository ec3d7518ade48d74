"""Clusters of an embedding, and their number."""

import random
import sys

import anndata as ad
import numpy as np
import pytest
import torch
from anndata import AnnData
from scipy import sparse
from sklearn.metrics import adjusted_rand_score, silhouette_score

from sc_ssl.metrics import kmeans
from sc_ssl.tl import _consensus, _n_clusters, cluster
from sc_ssl.tl._partitions import neighbor_graph

MODULE = sys.modules["sc_ssl.tl.cluster"]  # the function has the same name
every_method = pytest.mark.parametrize("method", ["consensus", "kmeans", "leiden", "gmm"])


def build_cells(n_cells: int = 150, n_groups: int = 3, *, spread: float = 0.5, seed: int = 0) -> AnnData:
    """Groups around corners of a cube in 5 dimensions, sizes falling; ``obs["group"]`` names them."""
    rng = np.random.default_rng(seed)
    share = np.arange(n_groups, 0, -1)
    group = np.sort(rng.choice(n_groups, n_cells, p=share / share.sum()))
    center = 6 * rng.permutation(np.eye(5, dtype=np.float32).repeat(2, axis=0) * np.tile([1, -1], 5)[:, None])
    x = center[group] + rng.normal(scale=spread, size=(n_cells, 5))
    cells = AnnData(obsm={"X_masksc": x.astype(np.float32)})
    cells.obs["group"] = group.astype(str)
    return cells


@pytest.fixture
def cells():
    return build_cells()


def ari(cells, key="masksc_cluster"):
    return adjusted_rand_score(cells.obs["group"], cells.obs[key])


@every_method
@pytest.mark.parametrize("n_groups", [2, 3, 5])
def test_groups_that_lie_apart_are_counted_and_found(method, n_groups):
    cells = build_cells(200, n_groups)
    cluster(cells, method=method, k_range=range(2, 9))
    assert cells.uns["masksc_cluster"]["n_clusters"] == n_groups
    assert ari(cells) == 1


@every_method
def test_the_number_that_is_given_is_made(method):
    cells = build_cells(300, 1)
    cluster(cells, method=method, n_clusters=4)
    assert list(cells.obs["masksc_cluster"].cat.categories) == ["0", "1", "2", "3"]
    assert cells.uns["masksc_cluster"]["curve"]["n_clusters"].tolist() == [4]


def test_clusters_are_numbered_by_falling_size():
    cells = build_cells(400, 4)
    cells = cells[::-1].copy()
    cluster(cells)
    sizes = cells.obs["masksc_cluster"].value_counts()
    assert sizes[["0", "1", "2", "3"]].is_monotonic_decreasing and sizes["0"] > sizes["3"]


def test_the_curve_is_the_criterion_and_the_agreement_of_resamples(cells):
    z = cells.obsm["X_masksc"]
    curve = _n_clusters.judge(z, "kmeans", [3, 4], seed=7)
    graph = neighbor_graph(z, 7).obsp["connectivities"].toarray()
    degree, total = graph.sum(axis=1), graph.sum()
    for k, found in zip((3, 4), curve.criterion, strict=True):
        label_n = kmeans(z, k, random_state=7)
        same = label_n[:, None] == label_n[None]
        modularity = ((graph - np.outer(degree, degree) / total) * same).sum() / total
        assert found == pytest.approx((silhouette_score(z, label_n) + modularity) / 2, rel=1e-5)
    rng = np.random.default_rng(7)
    draws = [rng.choice(150, 120, replace=False) for _ in range(5)]
    expected = [
        [adjusted_rand_score(kmeans(z, k, random_state=7)[d], kmeans(z[d], k, random_state=7)) for d in draws]
        for k in (3, 4)
    ]
    np.testing.assert_allclose(curve.stability, np.mean(expected, axis=1))
    np.testing.assert_allclose(curve.stability_sd, np.std(expected, axis=1))


def test_the_highest_criterion_is_chosen_from_the_range(cells):
    cluster(cells, k_range=(4, 6, 5))
    done = cells.uns["masksc_cluster"]
    assert done["curve"]["n_clusters"].tolist() == [4, 5, 6]
    assert done["n_clusters"] == [4, 5, 6][np.argmax(done["curve"]["criterion"])]


@pytest.mark.parametrize(("n_cells", "largest"), [(12, 2), (60, 6), (260, 25), (400, 25)])
def test_the_default_range_leaves_ten_cells_a_cluster(n_cells, largest):
    cells = build_cells(n_cells)
    cluster(cells)
    assert cells.uns["masksc_cluster"]["curve"]["n_clusters"].tolist() == list(range(2, largest + 1))


def test_keys_follow_the_embedding_or_are_given(cells):
    cells.obsm["pca"] = cells.obsm["X_masksc"]
    cluster(cells, "pca", n_clusters=2)
    cluster(cells, n_clusters=2, key_added="own")
    assert {"pca_cluster", "own", "own_stability"} <= set(cells.obs) and set(cells.uns) == {"pca_cluster", "own"}
    assert cells.uns["own"]["params"]["use_rep"] == "X_masksc"


def test_only_the_result_is_written_and_a_copy_is_returned(cells):
    copied = cluster(cells, n_clusters=3, copy=True)
    assert list(cells.obs) == ["group"] and not cells.uns
    assert list(copied.obs) == ["group", "masksc_cluster", "masksc_cluster_stability"] and list(copied.uns) == [
        "masksc_cluster"
    ]
    assert cluster(cells, n_clusters=3) is None


@every_method
def test_results_repeat_and_the_callers_random_state_is_untouched(method):
    cells = build_cells(90, 2, spread=4)
    before = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    cluster(cells, method=method, k_range=range(2, 6))
    assert random.getstate() == before[0]
    np.testing.assert_array_equal(np.random.get_state()[1], before[1][1])
    assert np.random.get_state()[2:] == before[1][2:]
    assert torch.equal(torch.random.get_rng_state(), before[2])
    cluster(cells, method=method, k_range=range(2, 6), key_added="again")
    assert cells.obs["again"].equals(cells.obs["masksc_cluster"].rename("again"))
    curves = [cells.uns[key]["curve"] for key in ("again", "masksc_cluster")]
    for name in curves[0]:
        np.testing.assert_array_equal(curves[0][name], curves[1][name])


def test_without_a_seed_the_callers_state_decides(cells):
    cells.obsm["X_masksc"] = np.random.default_rng(0).normal(size=(150, 5))
    results = []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        cluster(cells, n_clusters=8, random_state=None)
        results.append(cells.obs["masksc_cluster"].to_numpy())
    assert (results[0] == results[1]).all() and (results[0] != results[2]).any()


@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_results_survive_writing(cells, tmp_path, form):
    cluster(cells, k_range=range(2, 5))
    getattr(cells, f"write_{form}")(tmp_path / f"cells.{form}")
    found = getattr(ad, f"read_{form}")(tmp_path / f"cells.{form}")
    assert found.obs["masksc_cluster"].astype(str).tolist() == cells.obs["masksc_cluster"].astype(str).tolist()
    done = found.uns["masksc_cluster"]
    assert done["n_clusters"] == 3 and done["params"]["k_range"].tolist() == [2, 3, 4]
    np.testing.assert_array_equal(done["curve"]["stability"], cells.uns["masksc_cluster"]["curve"]["stability"])


@pytest.mark.parametrize("storage", [sparse.csr_matrix, lambda x: x.astype(np.float64)], ids=["sparse", "float64"])
def test_embeddings_may_be_sparse_or_double(cells, storage):
    cells.obsm["X_masksc"] = storage(cells.obsm["X_masksc"])
    cluster(cells)
    assert ari(cells) == 1


@every_method
def test_many_cells_follow_those_that_were_drawn(method, monkeypatch):
    monkeypatch.setattr(MODULE, "MAX_JUDGED", 80)
    monkeypatch.setattr(MODULE, "MAX_CLUSTERED", 200)
    cells = build_cells(600, 4)
    cluster(cells, method=method, k_range=range(2, 8))
    assert cells.uns["masksc_cluster"]["n_clusters"] == 4
    assert ari(cells) == 1


def test_as_many_clusters_as_cells_are_made_without_a_criterion():
    cells = build_cells(12, 2)
    cluster(cells, n_clusters=12)
    assert cells.obs["masksc_cluster"].nunique() == 12
    assert np.isnan(cells.uns["masksc_cluster"]["curve"]["criterion"]).all()


def with_nan(cells):
    cells.obsm["X_masksc"][3, 1] = np.nan


def with_doubles(cells):
    cells.obsm["X_masksc"][:] = cells.obsm["X_masksc"][np.arange(150) % 4]


def constant(cells):
    cells.obsm["X_masksc"][:] = 1


BAD = {
    "no such embedding": (
        None,
        {"use_rep": "X_pca"},
        KeyError,
        r"'X_pca' is not in adata.obsm, which holds 'X_masksc'",
    ),
    "nan": (with_nan, {}, ValueError, r"obsm\['X_masksc'\] should be finite, but 1 of 150 .* rows 3"),
    "one cluster": (None, {"n_clusters": 1}, ValueError, r"n_clusters should lie between 2 .* 150, found 1"),
    "more than cells": (None, {"n_clusters": 151}, ValueError, "n_clusters should lie between 2 .* 150, found 151"),
    "more than distinct": (with_doubles, {"n_clusters": 5}, ValueError, "distinct cells .* 4, found 5"),
    "constant": (constant, {}, ValueError, r"all cells are the same in obsm\['X_masksc'\]"),
    "constant, a number given": (constant, {"n_clusters": 3}, ValueError, "all cells are the same"),
    "range from 1": (None, {"k_range": [1, 2]}, ValueError, "k_range should lie between 2 .* found 1, 2"),
    "empty range": (None, {"k_range": []}, ValueError, "k_range should lie between 2 .* found none"),
    "no integer": (None, {"n_clusters": 2.5}, TypeError, "n_clusters takes whole numbers of clusters, found 2.5"),
    "one number to choose from": (None, {"k_range": 5}, TypeError, r"such as range\(2, 11\), found 5"),
    "a truth value": (None, {"n_clusters": True}, TypeError, "whole numbers of clusters, found True"),
    "unknown method": (
        None,
        {"method": "louvain"},
        ValueError,
        "method is one of 'consensus', 'kmeans', 'leiden', 'gmm', found",
    ),
    "more groups than asked for": (None, {"n_clusters": 2, "method": "leiden"}, ValueError, "nearest number .* is 3"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input_is_refused_and_nothing_is_written(cells, case):
    spoil, options, error, message = BAD[case]
    if spoil:
        spoil(cells)
    with pytest.raises(error, match=message):
        cluster(cells, **options)
    assert list(cells.obs) == ["group"] and not cells.uns


def test_the_consensus_hardly_depends_on_the_seed_where_kmeans_does():
    cells = build_cells(200, 6, spread=2.5)
    found = {method: [] for method in ("consensus", "kmeans")}
    for method, labels in found.items():
        for seed in range(4):
            cluster(cells, method=method, n_clusters=8, random_state=seed)
            labels.append(cells.obs["masksc_cluster"].to_numpy())
    agree = {
        method: np.mean([adjusted_rand_score(labels[0], other) for other in labels[1:]])
        for method, labels in found.items()
    }
    assert agree["consensus"] > max(agree["kmeans"], 0.85)


def test_stability_is_the_share_of_runs_in_which_cells_are_together():
    run_nr = np.array([[0, 0], [0, 0], [1, 0], [1, 1]])
    np.testing.assert_allclose(_consensus._item_consensus(run_nr, np.array([0, 0, 1, 1])), [1, 1, 0.75, 0.75])


def test_a_group_that_is_cut_by_chance_is_less_stable_than_one_that_lies_apart():
    cells = build_cells(300, 2, spread=0.5)
    cluster(cells, n_clusters=3)
    stability, group = cells.obs["masksc_cluster_stability"], cells.obs["group"]
    assert stability.between(0, 1).all()
    assert stability[group == "0"].mean() < 0.9 < stability[group == "1"].mean()  # the larger one is cut in two
    whole = cells.obs["masksc_cluster"][group == "1"].iloc[0]
    assert cells.uns["masksc_cluster"]["cluster_stability"].argmax() == int(whole)
