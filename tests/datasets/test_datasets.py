import h5py
import numpy as np
import pandas as pd
import pooch
import pytest
import scanpy as sc
from scipy.sparse import csr_matrix

from sc_ssl import datasets

needs_data = pytest.mark.data("pbmc4k_top2000.h5ad", "worm_neuron.h5ad")


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


@pytest.mark.parametrize("make", [datasets.pbmc4k, datasets.worm_neuron])
def test_no_data_and_no_network_names_both_ways_out(make, monkeypatch, tmp_path):
    def offline(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setenv("SC_SSL_DATA", str(tmp_path))
    monkeypatch.setattr(pooch, "retrieve", offline)
    with pytest.raises(FileNotFoundError, match=r"SC_SSL_DATA to a folder that has \w+\.h5ad, or allow .* https://"):
        make()


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
@pytest.mark.parametrize("make", [datasets.pbmc4k, datasets.worm_neuron])
def test_download_and_local_copy_are_the_same_data(make, tmp_path, monkeypatch):
    local = make()
    with h5py.File(tmp_path / "upstream.h5", "w") as file:
        file["X"] = local.X.toarray()
        file["Y"] = local.obs["cell_type"].str.removeprefix("type_").astype(int).to_numpy()
    monkeypatch.delenv("SC_SSL_DATA")
    monkeypatch.setattr(pooch, "retrieve", lambda *_, **__: str(tmp_path / "upstream.h5"))
    downloaded = make()
    pd.testing.assert_frame_equal(downloaded.obs, local.obs)
    pd.testing.assert_frame_equal(downloaded.var, local.var)
    assert (downloaded.X != local.X).nnz == 0
