"""Neighbours of cells in an embedding."""

import numpy as np
import pytest

from sc_ssl.data import nearest_cells
from sc_ssl.data.neighbors import _others


def test_nearest_cells_are_those_of_the_distance_matrix():
    values = np.random.default_rng(0).normal(size=(30, 4))
    distance = ((values[:, None] - values[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(nearest_cells(values, 5), np.argsort(distance, axis=1)[:, :6])


def test_approximate_search_finds_most_of_the_same(monkeypatch):
    values = np.random.default_rng(0).normal(size=(600, 4)).astype(np.float32)
    exact = nearest_cells(values, 10)
    monkeypatch.setattr("sc_ssl.data.neighbors.MAX_EXACT", 100)
    found = nearest_cells(values, 10)
    assert (found[:, 0] == np.arange(600)).all()
    assert (found[:, 1:] != found[:, :1]).all()
    assert np.mean([len(set(a) & set(b)) / 11 for a, b in zip(exact, found, strict=True)]) > 0.9


@pytest.mark.parametrize(
    ("found", "others"),
    [([0, 1, 2], [1, 2]), ([1, 0, 2], [1, 2]), ([1, 2, 3], [1, 2]), ([0, 1, -1], [1, 0]), ([1, 0, -1], [1, 0])],
)
def test_the_cell_itself_is_left_out_wherever_it_stands(found, others):
    rows = np.array([found, [1, 0, 2], [2, 0, 1], [3, 1, 2]])
    assert _others(rows)[0].tolist() == others
    assert _others(rows).shape == (4, 2)
