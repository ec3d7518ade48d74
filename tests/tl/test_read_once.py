"""The counts of the user's cells are taken out of the AnnData once, described once, and handed on."""

from functools import partial

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest

import sc_ssl.data.counts
from sc_ssl.tl import annotate, drug_response, embed, nmf_transfer, predict_modality

QUICK = {"max_epochs": 1, "accelerator": "cpu", "train_kwargs": {"enable_progress_bar": False}}
MODELS = ("contrastive_sc", "mae")
#: of three drugs, or proteins
FEATURES = pd.DataFrame(np.eye(3), index=["a", "b", "c"])


class Watched(ad.AnnData):
    """Cells that count how often their matrix is asked for."""

    n_reads = 0

    @property
    def X(self):
        self.n_reads += 1
        return ad.AnnData.X.fget(self)

    @X.setter  # anndata 0.13 sets it when it is made
    def X(self, value):
        ad.AnnData.X.fset(self, value)


@pytest.fixture
def described(monkeypatch):
    """How many cells each matrix had that was described."""
    found, describe = [], sc_ssl.data.counts.describe_values

    def listen(matrix):
        found.append(matrix.shape[0])
        return describe(matrix)

    monkeypatch.setattr(sc_ssl.data.counts, "describe_values", listen)
    return found


def watched(build_counts, n_cells=120, **options):
    counts = build_counts(n_cells, **options)
    cells = Watched(counts.X, obs=counts.obs, var=counts.var)
    cells.n_reads = 0  # making it may have asked
    return cells


def reads_of(*cells):
    return [c.n_reads for c in cells]


@pytest.mark.parametrize("method", [*MODELS, "pca_cosine", "nmf"])
def test_by_embed(build_counts, described, method):
    cells = watched(build_counts)
    cells.n_reads = 0
    embed(cells, method, **QUICK if method in MODELS else {})
    assert (reads_of(cells), described) == ([1], [120])


def test_by_embed_with_a_trained_model(build_counts, described, tmp_path):
    embed(build_counts(), "mae", save_model=tmp_path / "model", **QUICK)
    cells = watched(build_counts)
    cells.n_reads = 0
    described.clear()
    embed(cells, tmp_path / "model")
    assert (reads_of(cells), described) == ([1], [120])


def test_by_nmf_with_a_source(build_counts, described):
    cells, source = watched(build_counts), watched(build_counts, 130, seed=1)
    cells.n_reads = source.n_reads = 0
    nmf_transfer(cells, source, n_components=4, theta=0.5)
    assert (reads_of(cells, source), described) == ([1, 1], [120, 130])


@pytest.mark.parametrize("method", ["knn", "supervised"])
def test_by_annotate(build_counts, described, method):
    cells, reference = watched(build_counts), watched(build_counts, 130, seed=1)
    cells.n_reads = reference.n_reads = 0
    annotate(cells, reference, "cell_type", method=method, model="mae", key_added="found", **QUICK)
    assert (reads_of(cells, reference), described) == ([1, 1], [120, 130])


@pytest.mark.parametrize("tool", [predict_modality, partial(drug_response, drugs=FEATURES)])
def test_by_tools_that_train_on_the_measured_cells(build_counts, described, tool):
    cells = watched(build_counts)
    measured = pd.DataFrame(np.random.default_rng(0).normal(size=(120, 3)), cells.obs_names, FEATURES.index)
    measured.iloc[:20] = np.nan  # to be predicted
    cells.obsm["measured"] = measured
    cells.n_reads = 0
    tool(cells, "measured", encoder=None, **QUICK)
    assert (reads_of(cells), described) == ([1], [120])


@pytest.mark.parametrize(("method", "n_passes"), [("mae", 3), ("pca_cosine", 3)])
def test_from_disk_values_are_read_to_check_to_select_genes_and_to_take_them(
    build_counts, tmp_path, monkeypatch, method, n_passes
):
    cells = build_counts(4000)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    n_read, read = [], h5py.Dataset.__getitem__

    def listen(dataset, *args, **kwargs):
        found = read(dataset, *args, **kwargs)
        if dataset.name == "/X/data":
            n_read.append(np.size(found))
        return found

    monkeypatch.setattr(h5py.Dataset, "__getitem__", listen)
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    embed(backed, method, **QUICK if method in MODELS else {})
    # beside them, the 512 cells that are looked at to describe the matrix
    assert sum(n_read) <= (n_passes + 512 / 4000 + 0.05) * cells.X.nnz
