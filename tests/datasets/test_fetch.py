"""The one fetch that all data sets share."""

import os
from dataclasses import replace

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pooch
import pytest
from scipy.sparse import csr_matrix

from sc_ssl.datasets._fetch import Upstream, fetch

UPSTREAM = Upstream(
    name="toy", repository="owner/repository", commit="c0ffee", path="data/toy.h5", sha256="0" * 64, shape=(12, 3)
)
COUNTS = np.random.default_rng(0).poisson(1.0, (12, 3))
LABELS = np.array([10, 2, 1] * 4)


def write_h5(folder, **arrays):
    with h5py.File(folder / "toy.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return folder / "toy.h5"


def test_upstream_file_becomes_counts_and_categories(tmp_path, monkeypatch):
    path = write_h5(tmp_path, X=COUNTS, Y=LABELS)
    monkeypatch.setattr(pooch, "retrieve", lambda *_, **__: str(path))
    adata = fetch(UPSTREAM)
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
    fetch(UPSTREAM)
    assert asked["url"].endswith("/owner/repository/c0ffee/data/toy.h5")
    assert asked["known_hash"] == "sha256:" + "0" * 64
    assert asked["path"] == pooch.os_cache("sc_ssl")


def test_first_folder_that_has_the_file_wins(tmp_path, monkeypatch):
    folders = [tmp_path / name for name in ("missing", "empty", "first", "second")]
    for value, folder in enumerate(folders):
        if folder.name != "missing":
            folder.mkdir()
        if folder.name in ("first", "second"):
            obs = pd.DataFrame({"cell_type": pd.Categorical(["a"] * 12)}, index=[f"c{i}" for i in range(12)])
            ad.AnnData(csr_matrix(np.full((12, 3), value, dtype=np.float32)), obs=obs).write_h5ad(folder / "toy.h5ad")
    monkeypatch.setenv("SC_SSL_DATA", os.pathsep.join(map(str, folders)))
    assert (fetch(UPSTREAM).X.data == 2).all()


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
        fetch(upstream)
