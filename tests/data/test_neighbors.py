"""Neighbours of cells in an embedding."""

import os
import subprocess
import sys

import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData

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


def test_what_scanpy_does_above_8192_cells_works():
    """With few, and without numba, which compiles for half a minute. With pynndescent 0.7.0 'csr_array' had no 'getnnz'."""
    code = (
        "import anndata, numpy, scanpy; cells = anndata.AnnData(obsm={'X_z': numpy.random.rand(60, 3)});"
        "scanpy.pp.neighbors(cells, use_rep='X_z', n_neighbors=5, transformer='pynndescent');"
        "assert cells.obsp['distances'].shape == cells.obsp['connectivities'].shape == (60, 60)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"NUMBA_DISABLE_JIT": "1"})


@pytest.mark.slow
def test_scanpy_finds_neighbors_of_more_than_8192_cells():
    cells = AnnData(obsm={"X_random": np.random.default_rng(0).normal(size=(8300, 5)).astype(np.float32)})
    sc.pp.neighbors(cells, use_rep="X_random", n_neighbors=5)
    assert cells.obsp["distances"].shape == (8300, 8300)


@pytest.mark.parametrize(
    ("found", "others"),
    [([0, 1, 2], [1, 2]), ([1, 0, 2], [1, 2]), ([1, 2, 3], [1, 2]), ([0, 1, -1], [1, 0]), ([1, 0, -1], [1, 0])],
)
def test_the_cell_itself_is_left_out_wherever_it_stands(found, others):
    rows = np.array([found, [1, 0, 2], [2, 0, 1], [3, 1, 2]])
    assert _others(rows)[0].tolist() == others
    assert _others(rows).shape == (4, 2)
