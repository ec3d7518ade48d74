"""Cells on disk: every way of storing them is read alike, and what cannot be read says so."""

import anndata as ad
import numpy as np
import pytest
import torch
import zarr
from anndata.experimental import AnnCollection
from scipy import sparse

from sc_ssl import models, pp, tl
from sc_ssl.data import CellLoader, Cells, opened, read_counts, representative, variable_genes


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch):
    """Matrices on disk stay there, however small."""
    monkeypatch.setattr("sc_ssl.data.counts.MAX_LOADED_BYTES", 0)


def h5ad(adata, folder, name="cells"):
    adata.write_h5ad(folder / f"{name}.h5ad")
    return ad.read_h5ad(folder / f"{name}.h5ad", backed="r")


def zarr_store(adata, folder):
    adata.write_zarr(folder / "cells.zarr")
    group = zarr.open_group(folder / "cells.zarr", mode="r")["X"]
    matrix = group if isinstance(group, zarr.Array) else ad.io.sparse_dataset(group)
    return ad.AnnData(matrix, obs=adata.obs, var=adata.var)


def dense(write):
    def stored(adata, folder):
        adata.X = adata.X.toarray()
        return write(adata, folder)

    stored.__name__ = f"dense_{write.__name__}"
    return stored


def read_lazily(adata, folder):
    pytest.importorskip("dask")
    adata.write_zarr(folder / "cells.zarr")
    return ad.experimental.read_lazy(folder / "cells.zarr")


def concatenated_lazily(adata, folder):
    pytest.importorskip("dask")
    for name, half in (("a", adata[:50]), ("b", adata[50:])):
        half.copy().write_zarr(folder / f"{name}.zarr")
    return ad.concat([ad.experimental.read_lazy(folder / f"{name}.zarr") for name in "ab"], join="inner")


def collection(adata, folder):
    shuffled = adata[50:, ::-1].copy()
    return AnnCollection([h5ad(adata[:50].copy(), folder, "a"), h5ad(shuffled, folder, "b")], join_vars="inner")


def view_of_file(adata, folder):
    twice = ad.concat([adata, adata], index_unique="-")
    return h5ad(twice, folder)[120:]


def view_of_collection(adata, folder):
    twice = ad.concat([adata, adata], index_unique="-")
    return collection(twice, folder)[120:]


STORES = [h5ad, zarr_store, dense(h5ad), dense(zarr_store), read_lazily, concatenated_lazily]
STORES += [collection, view_of_file, view_of_collection]


@pytest.fixture(params=STORES, ids=lambda store: store.__name__)
def stored(request, counts, tmp_path):
    return request.param(counts.copy(), tmp_path)


def cells_of(stored, genes):
    return Cells.from_anndata(opened(stored), list(genes), batch_key="donor", batches=["donor_0"])


def test_rows_and_library_sizes_are_those_in_memory(counts, stored):
    genes, index = counts.var_names[::-1][:40], np.array([90, 3, 3, 41])
    cells, expected = cells_of(stored, genes), cells_of(counts, genes)
    assert not sparse.issparse(cells.matrix)
    np.testing.assert_array_equal(cells.rows(index).toarray(), expected.rows(index).toarray())
    np.testing.assert_array_equal(cells.library_size, expected.library_size)
    np.testing.assert_array_equal(np.vstack([c.toarray() for _, c in cells.chunks()]), expected.matrix.toarray())
    assert list(variable_genes(read_counts(stored), 20)) == list(variable_genes(read_counts(counts), 20))


@pytest.mark.parametrize("batch_size", [7, 16, 200])
def test_an_epoch_from_disk_is_shuffled_and_has_every_cell_once(counts, tmp_path, monkeypatch, batch_size):
    monkeypatch.setattr("sc_ssl.data.loader.BLOCK", 4)
    monkeypatch.setattr("sc_ssl.data.loader.BUFFER", 32)
    cells = cells_of(h5ad(counts, tmp_path), counts.var_names)
    cells = cells.beside(number=np.arange(120.0))
    loader = CellLoader(cells, np.arange(120), batch_size, shuffle=True)
    found = list(loader)
    assert [len(m["X"]) for m in found] == [len(m["batch"]) for m in found] and len(found) == len(loader)
    order = torch.cat([m["number"] for m in found]).int()
    np.testing.assert_array_equal(torch.cat([m["X"] for m in found]), counts.X[order.numpy()].toarray())
    assert sorted(order.tolist()) == list(range(120)) and order.tolist() != list(range(120))
    again = torch.cat([m["number"] for m in loader]).int()
    assert order.tolist() != again.tolist()
    in_order = torch.cat([m["number"] for m in CellLoader(cells, np.arange(120)[::-1].copy(), batch_size)])
    assert in_order.tolist() == list(range(120))[::-1]


def test_a_file_by_gene_is_refused_with_the_remedy(counts, tmp_path):
    counts.X = counts.X.tocsc()
    with pytest.raises(ValueError, match=r"X is stored on disk by gene \(CSC\).*adata.X.tocsr\(\)"):
        read_counts(h5ad(counts, tmp_path))


def test_a_store_that_vanishes_is_an_error(counts, tmp_path):
    cells = cells_of(zarr_store(counts, tmp_path), counts.var_names)
    (tmp_path / "cells.zarr" / "X").rename(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"cells 0 to 119 of .*cells.zarr.* cannot be read"):
        cells.rows(np.arange(120))


def test_a_file_that_is_closed_is_an_error(counts, tmp_path):
    cells = cells_of(h5ad(counts, tmp_path), counts.var_names)
    cells.matrix.source.matrix.group.file.close()
    with pytest.raises(OSError, match="cut off, damaged, or no longer there"):
        cells.rows(np.arange(3))


def test_files_that_share_few_genes_or_not_the_layer_are_refused(counts, tmp_path):
    other = counts.copy()
    other.var_names = [*counts.var_names[:30], *(f"other_{i}" for i in range(66))]
    with pytest.raises(ValueError, match="file 1 of 2 shares 30 of its 96 genes"):
        opened(AnnCollection([counts, other], join_vars="inner", index_unique="-"))
    other = counts.copy()
    other.layers["counts"] = other.X
    with pytest.raises(KeyError, match=r"layers\['counts'\] is missing in file 2 of 2"):
        opened(AnnCollection([other, counts], index_unique="-"))


def test_a_tiny_batch_is_represented():
    batch = np.repeat([0, 1, 2], [60_000, 12, 40_000])
    index = representative(batch, 1000)
    n_b = np.bincount(batch[index])
    assert n_b[1] == 12 and len(index) <= 1000 and abs(n_b[0] / n_b[2] - 1.5) < 0.01
    assert np.array_equal(representative(np.zeros(5000), 100), np.unique(np.linspace(0, 4999, 100).astype(int)))
    runs = representative(np.zeros(5000), 100, block=10)
    assert len(runs) == 100 and (np.diff(runs) == 1).sum() == 90 and runs[-1] == 4999


QUICK = {"max_epochs": 2, "train_kwargs": {"batch_size": 40, "enable_progress_bar": False}, "accelerator": "cpu"}


def test_tools_embed_cells_from_disk_and_write_a_store(counts, stored, tmp_path):
    out = tmp_path / "embedding.zarr"
    options = {"n_hidden": [16], "n_latent": 4, "key_added": "z", **QUICK}
    tl.embed(stored, "mae", save_model=tmp_path / "model", out=out, **options)
    found = ad.read_zarr(out)
    assert list(found.obs_names) == list(stored.obs_names) and found.uns["z"]["params"]["method"] == "mae"
    tl.embed(counts, tmp_path / "model", key_added="z")
    np.testing.assert_allclose(found.obsm["z"], counts.obsm["z"], atol=1e-6)
    cells = pp.open_cells(stored)
    tl.embed(cells, tmp_path / "model", key_added="z")
    np.testing.assert_allclose(cells.obsm["z"], counts.obsm["z"], atol=1e-6)
    assert sorted(path.name for path in tmp_path.glob("*.unfinished")) == []


def test_a_result_that_cannot_be_written_is_refused_before_any_work(counts, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(FileExistsError, match="there' exists already"):
        tl.embed(counts, "mae", out=tmp_path / "there")
    with pytest.raises(PermissionError, match="nowhere is no folder that takes files"):
        tl.embed(counts, "mae", out=tmp_path / "nowhere" / "z.zarr")
    with pytest.raises(ValueError, match="AnnCollection takes no result: pass sc_ssl.pp.open_cells"):
        tl.embed(AnnCollection([counts, counts.copy()], index_unique="-"), "mae")
    with pytest.raises(ValueError, match="take a method that does not cluster"):
        tl.embed(counts, "sczidesk", out=tmp_path / "z.zarr")


def test_models_train_on_cells_from_disk(counts, stored):
    if pp.open_cells(stored) is not stored:
        with pytest.raises(TypeError, match="cannot be registered: pass adata = sc_ssl.pp.open_cells"):
            models.MaskedAutoencoder.setup_anndata(stored)
    cells = pp.open_cells(stored)
    models.MaskedAutoencoder.setup_anndata(cells, batch_key="donor")
    model = models.MaskedAutoencoder(cells, n_hidden=[16], n_latent=4)
    model.train(2, batch_size=40, enable_progress_bar=False, accelerator="cpu", validation_size=0.2)
    np.testing.assert_array_equal(model.get_latent_representation(), model.get_latent_representation(stored))
    np.testing.assert_allclose(model.get_latent_representation(), model.get_latent_representation(counts), atol=1e-6)
