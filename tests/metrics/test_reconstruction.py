import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.metrics import explained_variance_score

from sc_ssl.metrics import explained_variance, pearson


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 8)) * rng.uniform(0.1, 5, 8)
    return x, x + rng.normal(size=(50, 8)) * 0.7 + 3


@pytest.mark.parametrize(("weighted", "average"), [(True, "variance_weighted"), (False, "uniform_average")])
def test_explained_variance_is_scikit_learns(pair, weighted, average):
    expected = explained_variance_score(*pair, multioutput=average)
    assert explained_variance(*pair, weighted=weighted) == pytest.approx(expected)
    assert explained_variance(sparse.csr_matrix(pair[0]), pd.DataFrame(pair[1]), weighted=weighted) == pytest.approx(
        expected
    )


@pytest.mark.parametrize("weighted", [True, False])
def test_only_predicted_entries_are_scored(pair, weighted):
    x, predicted = pair
    predicted[np.random.default_rng(1).random(x.shape) < 0.4] = np.nan
    predicted[:, 3] = np.nan
    predicted[1:, 5] = np.nan
    genes = [g for g in range(8) if g not in (3, 5)]
    seen = [~np.isnan(predicted[:, g]) for g in genes]
    variance = np.array([x[s, g].var() for g, s in zip(genes, seen, strict=True)])
    rest = np.array([(x - predicted)[s, g].var() for g, s in zip(genes, seen, strict=True)])
    expected = 1 - rest.sum() / variance.sum() if weighted else np.mean(1 - rest / variance)
    assert explained_variance(x, predicted, weighted=weighted) == pytest.approx(expected)


def test_genes_that_do_not_vary_are_left_out(pair):
    x, predicted = pair
    with_constant = (np.c_[x, np.ones(50)], np.c_[predicted, np.random.default_rng(0).random(50)])
    assert explained_variance(*with_constant, weighted=False) == pytest.approx(
        explained_variance(*pair, weighted=False)
    )
    with pytest.raises(ValueError, match="nothing can be explained"):
        explained_variance(np.ones((5, 2)), np.ones((5, 2)))


def test_pearson_is_the_correlation_in_three_ways(pair):
    x, predicted = pair
    found = pearson(x, predicted)
    assert found["per_feature"] == pytest.approx(
        np.mean([np.corrcoef(x[:, f], predicted[:, f])[0, 1] for f in range(8)])
    )
    assert found["per_cell"] == pytest.approx(np.mean([np.corrcoef(x[n], predicted[n])[0, 1] for n in range(50)]))
    assert found["flattened"] == pytest.approx(np.corrcoef(x.ravel(), predicted.ravel())[0, 1])


def test_features_that_do_not_vary_are_left_out_of_pearson(pair):
    x, predicted = (np.c_[values, np.ones(50)] for values in pair)
    assert pearson(x, predicted)["per_feature"] == pytest.approx(pearson(*pair)["per_feature"])
    assert np.isnan(pearson(np.ones((3, 2)), np.ones((3, 2)))["flattened"])


def test_what_does_not_match_is_refused(pair):
    for score in (explained_variance, pearson):
        with pytest.raises(ValueError, match=r"one shape, cells × features; found \(50, 8\), \(50, 7\)"):
            score(pair[0], pair[1][:, :7])
    table = pd.DataFrame(pair[0])
    assert pearson(table, table)["flattened"] == pytest.approx(1)
    named = table.set_axis([f"p{i}" for i in range(8)], axis=1)
    assert pearson(table, named)["flattened"] == pytest.approx(1)  # an array has no names
    for score in (explained_variance, pearson):
        with pytest.raises(ValueError, match="same rows in the same order; at 0 found 0 and 49"):
            score(table, table.iloc[::-1])
        with pytest.raises(ValueError, match="same columns in the same order; at 1 found 1 and 2"):
            score(table, table[[0, 2, 1, 3, 4, 5, 6, 7]])
    with pytest.raises(ValueError, match="finite, found NaN"):
        pearson(pair[0], np.full((50, 8), np.nan))
