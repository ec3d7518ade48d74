import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier

from benchmarks.quality.cells import labelled, split, types, variable_genes
from benchmarks.quality.richter import neighbours


def test_neighbours_of_a_perfect_and_of_an_empty_embedding(cite):
    perfect = np.eye(3)[cite.obs["cell_type"].cat.codes] + 1e-3
    score = neighbours.by_neighbours(lambda adata, seed: perfect)(cite, 0)
    assert score == {"macro_f1": 1.0, "accuracy": 1.0}
    noise = neighbours.by_neighbours(lambda adata, seed: np.random.default_rng(0).normal(size=(90, 5)))(cite, 0)
    assert noise["macro_f1"] < 0.6


def test_a_row_leaves_the_cells_to_the_next_one(cite):
    def embed(adata, seed):
        adata.obsm["mine"] = adata.X.toarray()
        return adata.obsm["mine"]

    neighbours.by_neighbours(embed)(cite, 0)
    assert "mine" not in cite.obsm


def test_macro_f1_is_the_mean_over_types(cite):
    cite.obs["cell_type"] = pd.Categorical(["a"] * 60 + ["b"] * 30)
    score = neighbours.classify(DummyClassifier(strategy="most_frequent"), np.zeros((90, 1)), types(cite), 0)
    # all are called a: precision 2/3 and recall 1, and nothing for b
    assert score == pytest.approx({"macro_f1": (0.8 + 0) / 2, "accuracy": 2 / 3})


def test_rare_types_are_left_out_and_cells_are_drawn_by_the_seed(cite):
    cite.obs["cell_type"] = pd.Categorical(["rare"] * 5 + ["common"] * 85)
    first, again, other = (labelled(cite, seed, 60) for seed in (0, 0, 1))
    assert set(first.obs["cell_type"]) == {"common"}
    assert first.obs_names.equals(again.obs_names)
    assert not first.obs_names.equals(other.obs_names)


def test_a_split_has_a_fifth_of_each_type_and_depends_on_the_seed(cite):
    train, test = split(cite, 0)
    assert set(train.obs_names) | set(test.obs_names) == set(cite.obs_names)
    assert test.obs["cell_type"].value_counts().tolist() == [6, 6, 6]
    assert split(cite, 0)[1].obs_names.equals(test.obs_names)
    assert not split(cite, 1)[1].obs_names.equals(test.obs_names)


def test_test_cells_are_normalised_by_their_own_library_to_the_training_cells_depth(cite):
    train, test = split(cite, 0)
    x_train, x_test = variable_genes(train, test, n_genes=120)
    depth = np.median(np.asarray(train.X.sum(axis=1)))
    expected = np.log1p(test.X.toarray() * depth / np.asarray(test.X.sum(axis=1)))
    assert x_train.shape == (72, 120)
    np.testing.assert_allclose(np.sort(x_test.sum(axis=1)), np.sort(expected.sum(axis=1)), rtol=1e-4)
