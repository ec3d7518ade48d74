from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist

from sc_ssl import metrics


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def make_blobs(rng, *, n_types=3, n_per_type=20, distance=10.0):
    labels = np.repeat(np.arange(n_types), n_per_type)
    centers = distance * np.eye(n_types, 5)
    return centers[labels] + rng.normal(size=(len(labels), 5)), labels


def pair_counting_ari(a, b):
    """Adjusted Rand index from pairs of cells, one by one."""
    same_a, same_b = (np.equal.outer(x, x)[np.triu_indices(len(x), 1)] for x in (a, b))
    found, expected = (same_a & same_b).sum(), same_a.sum() * same_b.sum() / len(same_a)
    return (found - expected) / ((same_a.sum() + same_b.sum()) / 2 - expected)


def entropy_nmi(a, b):
    """Mutual information over the arithmetic mean of the entropies."""
    joint = pd.crosstab(a, b, normalize=True).to_numpy()

    def entropy(p):
        return -(p[p > 0] * np.log(p[p > 0])).sum()

    h_a, h_b = entropy(joint.sum(axis=1)), entropy(joint.sum(axis=0))
    return (h_a + h_b - entropy(joint)) / ((h_a + h_b) / 2)


def plain_silhouette(x, clusters):
    """(b - a) / max(a, b): a to the own cluster's other cells, b to the nearest other cluster."""
    distance = cdist(x, x)
    scores = []
    for i, own in enumerate(clusters):
        mean_to = {k: distance[i, (clusters == k) & (np.arange(len(x)) != i)].mean() for k in set(clusters)}
        a, b = mean_to.pop(own), min(mean_to.values())
        scores.append((b - a) / max(a, b))
    return np.mean(scores)


def test_entries_equal_their_formulas(rng):
    x, labels = make_blobs(rng, distance=2.0)
    common = rng.normal(size=(60, 4))
    clusters = rng.integers(0, 4, 60)
    scores = metrics.clustering(x, labels, clusters=clusters, common_space=common)
    assert scores["ari"] == pytest.approx(pair_counting_ari(labels, clusters))
    assert scores["nmi"] == pytest.approx(entropy_nmi(labels, clusters))
    assert scores["silhouette"] == pytest.approx(plain_silhouette(x, clusters))
    assert scores["silhouette_labels"] == pytest.approx(plain_silhouette(x, labels))
    assert scores["silhouette_common"] == pytest.approx(plain_silhouette(common, clusters))


@pytest.mark.parametrize("n_clusters", [2, 3, 4])
def test_accuracy_is_the_best_of_all_matchings(rng, n_clusters):
    n_types = 3
    labels, clusters = rng.integers(0, n_types, 40), rng.integers(0, n_clusters, 40)
    names = range(max(n_types, n_clusters))  # the smaller side is filled up with names that nobody has
    best = max(np.mean(np.array(p)[clusters] == labels) for p in permutations(names))
    assert metrics.accuracy(labels, clusters) == pytest.approx(best)


def test_separate_types_are_found_without_error(rng):
    x, labels = make_blobs(rng)
    scores = metrics.clustering(x, labels)
    assert list(scores.index) == ["ari", "nmi", "accuracy", "silhouette", "silhouette_labels", "silhouette_common"]
    assert scores[["ari", "nmi", "accuracy"]].tolist() == pytest.approx([1, 1, 1])
    assert scores["silhouette"] == pytest.approx(scores["silhouette_labels"])
    assert np.isnan(scores["silhouette_common"])


def test_names_of_types_and_clusters_do_not_matter(rng):
    x, labels = make_blobs(rng, distance=2.0)
    clusters = rng.integers(0, 3, 60)
    text = pd.Categorical(np.array(["b", "c", "a"])[labels], categories=["unused", "a", "b", "c"])
    renamed = metrics.clustering(x, text, clusters=np.array(["y", "x", "z"])[clusters])
    pd.testing.assert_series_equal(renamed, metrics.clustering(x, labels, clusters=clusters))


def test_order_of_cells_does_not_matter(rng):
    x, labels = make_blobs(rng, distance=2.0)
    clusters, order = rng.integers(0, 3, 60), rng.permutation(60)
    pd.testing.assert_series_equal(
        metrics.clustering(x[order], labels[order], clusters=clusters[order]),
        metrics.clustering(x, labels, clusters=clusters),
    )


def test_kmeans_is_repeatable_and_leaves_the_random_state_alone(rng):
    x = rng.normal(size=(50, 4))
    before = np.random.get_state()[1].copy()
    first, second = (metrics.kmeans(x, 5, random_state=3) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    assert set(first) == set(range(5))


def test_n_clusters_overrides_the_number_of_types(rng):
    x, labels = make_blobs(rng, n_types=3)
    two = metrics.clustering(x, labels, n_clusters=2)
    assert two["accuracy"] == pytest.approx(2 / 3)


def test_one_cluster_has_no_silhouette(rng):
    x, labels = make_blobs(rng)
    scores = metrics.clustering(x, labels, clusters=np.zeros(60))
    assert np.isnan(scores["silhouette"]) and scores["ari"] == 0
    assert scores["accuracy"] == pytest.approx(1 / 3)


X, LABELS = np.arange(12.0).reshape(6, 2), np.array([0, 0, 0, 1, 1, 1])
X_NAN = np.where(np.arange(6)[:, None] == 4, np.nan, X)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embedding": X_NAN}, r"embedding should be finite, but 1 of 6 cells .* rows 4"),
        ({"embedding": X[:, 0]}, r"shape \(n_cells, n_dims\), but has \(6,\)"),
        ({"labels": LABELS[:5]}, "labels should have one row for each of the 6 cells, but has 5"),
        ({"labels": ["a", None, "a", "b", "b", "b"]}, "labels should have a value for each cell, but 1 of 6 .* rows 1"),
        ({"labels": np.zeros(6)}, "at least two cell types"),
        ({"clusters": LABELS[:5]}, "clusters should have one row for each of the 6 cells, but has 5"),
        ({"clusters": LABELS, "n_clusters": 2}, "either clusters or n_clusters"),
        ({"n_clusters": 7}, "between 1 and the number of cells, 6, but is 7"),
        ({"common_space": X[:4]}, "common_space should have one row for each of the 6 cells, but has 4"),
        ({"common_space": X_NAN}, "common_space should be finite"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        metrics.clustering(**{"embedding": X, "labels": LABELS} | arguments)
