import os
from dataclasses import replace
from importlib import import_module

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pooch
import pytest
import scanpy as sc
from scipy.sparse import csr_matrix

from sc_ssl import datasets
from sc_ssl.datasets import _fetch

UPSTREAM = _fetch.Upstream(
    name="toy", repository="owner/repository", commit="c0ffee", path="data/toy.h5", sha256="0" * 64, shape=(12, 3)
)
COUNTS = np.random.default_rng(0).poisson(1.0, (12, 3))
LABELS = np.array([10, 2, 1] * 4)

needs_data = pytest.mark.data("pbmc4k_top2000.h5ad", "worm_neuron.h5ad")


def write_h5(folder, **arrays):
    with h5py.File(folder / "toy.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return folder / "toy.h5"


def test_pbmc68k_reduced_is_raw_counts_with_labels():
    adata = datasets.pbmc68k_reduced()
    assert adata.shape == (700, 765)
    assert isinstance(adata.X, csr_matrix) and adata.X.dtype == np.float32
    assert (adata.X.data >= 1).all() and (adata.X.data == np.rint(adata.X.data)).all()
    assert isinstance(adata.obs["cell_type"].dtype, pd.CategoricalDtype)
    assert (adata.obs["cell_type"] == adata.obs["bulk_labels"]).all()


def test_pbmc68k_reduced_normalises_back_to_what_scanpy_stores():
    reduced, adata = sc.datasets.pbmc68k_reduced(), datasets.pbmc68k_reduced()
    stored = np.expm1(reduced.raw.X.toarray().astype(float))
    counts = adata.X.toarray()
    factor = stored.sum(axis=1) / counts.sum(axis=1)
    # half a count is the most that rounding may move; float32 leaves an eighth
    assert np.abs(stored / factor[:, None] - counts).max() < 0.2
    assert list(adata.var_names) == list(reduced.raw.var_names)
    assert list(adata.obs_names) == list(reduced.obs_names)


def test_upstream_file_becomes_counts_and_categories(tmp_path, monkeypatch):
    path = write_h5(tmp_path, X=COUNTS, Y=LABELS)
    monkeypatch.setattr(pooch, "retrieve", lambda *_, **__: str(path))
    adata = _fetch.fetch(UPSTREAM)
    np.testing.assert_array_equal(adata.X.toarray(), COUNTS)
    assert adata.X.dtype == np.float32 and adata.X.format == "csr"
    assert list(adata.obs["cell_type"]) == [f"type_{label}" for label in LABELS]
    assert list(adata.obs["cell_type"].cat.categories) == ["type_1", "type_10", "type_2"]
    assert adata.obs_names[11] == "cell_11" and list(adata.var_names) == ["gene_0", "gene_1", "gene_2"]


def test_download_is_asked_for_one_commit_with_its_checksum(tmp_path, monkeypatch):
    asked = {}

    def retrieve(url, **kwargs):
        asked.update(kwargs, url=url)
        return str(write_h5(tmp_path, X=COUNTS, Y=LABELS))

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    _fetch.fetch(UPSTREAM)
    assert asked["url"].endswith("/owner/repository/c0ffee/data/toy.h5")
    assert asked["known_hash"] == "sha256:" + "0" * 64
    assert asked["path"] == pooch.os_cache("sc_ssl")


@pytest.mark.parametrize("make", [datasets.pbmc4k, datasets.worm_neuron])
def test_no_data_and_no_network_names_both_ways_out(make, monkeypatch, tmp_path):
    def offline(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setenv("SC_SSL_DATA", str(tmp_path))
    monkeypatch.setattr(pooch, "retrieve", offline)
    with pytest.raises(FileNotFoundError, match=r"SC_SSL_DATA to a folder that has \w+\.h5ad, or allow .* https://"):
        make()


def test_first_folder_that_has_the_file_wins(tmp_path, monkeypatch):
    folders = [tmp_path / name for name in ("missing", "empty", "first", "second")]
    for value, folder in enumerate(folders):
        if folder.name != "missing":
            folder.mkdir()
        if folder.name in ("first", "second"):
            obs = pd.DataFrame({"cell_type": pd.Categorical(["a"] * 12)}, index=[f"c{i}" for i in range(12)])
            ad.AnnData(csr_matrix(np.full((12, 3), value, dtype=np.float32)), obs=obs).write_h5ad(folder / "toy.h5ad")
    monkeypatch.setenv("SC_SSL_DATA", os.pathsep.join(map(str, folders)))
    assert (_fetch.fetch(UPSTREAM).X.data == 2).all()


@pytest.mark.parametrize(
    ("arrays", "upstream", "message"),
    [
        ({"X": COUNTS}, UPSTREAM, r"\['Y'\] is missing"),
        ({"X": COUNTS, "Y": LABELS}, replace(UPSTREAM, shape=(12, 4)), "12 cells x 4 genes, but .* has 12 x 3"),
        ({"X": COUNTS + 0.5, "Y": LABELS}, UPSTREAM, "fractional"),
    ],
)
def test_wrong_upstream_file_is_refused(arrays, upstream, message, tmp_path, monkeypatch):
    path = write_h5(tmp_path, **arrays)
    monkeypatch.setattr(pooch, "retrieve", lambda *_, **__: str(path))
    with pytest.raises(ValueError, match=message):
        _fetch.fetch(upstream)


@needs_data
@pytest.mark.parametrize(
    ("make", "shape", "sizes"),
    [
        (datasets.pbmc4k, (4271, 2000), [1292, 702, 606, 459, 450, 332, 295, 135]),
        (datasets.worm_neuron, (4186, 13488), [1015, 842, 443, 400, 334, 314, 305, 239, 224, 70]),
    ],
)
def test_benchmark_sets_have_the_published_types(make, shape, sizes):
    adata = make()
    assert adata.shape == shape
    assert adata.X.format == "csr" and adata.X.dtype == np.float32
    assert sorted(adata.obs["cell_type"].value_counts(), reverse=True) == sizes


@needs_data
@pytest.mark.parametrize("name", ["pbmc4k", "worm_neuron"])
def test_download_and_local_copy_are_the_same_data(name, tmp_path, monkeypatch):
    upstream = import_module(f"sc_ssl.datasets.{name}").UPSTREAM
    local = _fetch.fetch(upstream)
    labels = local.obs["cell_type"].str.removeprefix("type_").astype(int).to_numpy()
    path = write_h5(tmp_path, X=local.X.toarray(), Y=labels)
    monkeypatch.delenv("SC_SSL_DATA")
    monkeypatch.setattr(pooch, "retrieve", lambda *_, **__: str(path))
    downloaded = _fetch.fetch(upstream)
    pd.testing.assert_frame_equal(downloaded.obs, local.obs)
    pd.testing.assert_frame_equal(downloaded.var, local.var)
    assert (downloaded.X != local.X).nnz == 0
