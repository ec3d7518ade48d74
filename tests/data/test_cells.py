from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from sc_ssl.data import (
    CellDataModule,
    CellLoader,
    Cells,
    check_coverage,
    gene_statistics,
    gene_weights,
    in_order,
    match_genes,
    to_csr,
)


def read(adata, genes=None, **options):
    return Cells.from_anndata(adata, list(adata.var_names) if genes is None else genes, **options)


@pytest.fixture
def backed(counts, tmp_path):
    counts.write_h5ad(tmp_path / "counts.h5ad")
    adata = anndata.read_h5ad(tmp_path / "counts.h5ad", backed="r")
    yield adata
    adata.file.close()


def test_csr_in_memory_is_not_copied(counts):
    assert read(counts).matrix is counts.X


STORAGES = {
    "csc": sparse.csc_matrix,
    "csr_array": sparse.csr_array,
    "dense": lambda x: x.toarray(),
    "integer": lambda x: x.astype(int),
}


@pytest.mark.parametrize("convert", STORAGES.values(), ids=STORAGES)
def test_every_storage_gives_the_same_minibatch(counts, convert):
    index = np.array([5, 0, 5, 119])
    expected = next(iter(CellLoader(read(counts), index, 4)))
    counts.X = convert(counts.X)
    found = next(iter(CellLoader(read(counts), index, 4)))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_backed_rows_come_in_the_order_asked_for(counts, backed):
    index = np.array([90, 3, 3, 41])
    cells = read(backed, list(counts.var_names[::-1]))
    np.testing.assert_array_equal(cells.rows(index).toarray(), counts.X.toarray()[index][:, ::-1])
    found = next(iter(CellLoader(cells, index, 4)))["X"]
    np.testing.assert_array_equal(found, counts.X.toarray()[index][:, ::-1])


def test_genes_are_matched_by_name(counts):
    genes = ["gene_7", "absent", "gene_0"]
    matched = in_order(counts.X, match_genes(counts.var_names, genes, min_coverage=0.5)).toarray()
    np.testing.assert_array_equal(matched, np.c_[counts.X[:, 7].toarray(), np.zeros(120), counts.X[:, 0].toarray()])
    cells = read(counts, genes, min_coverage=0.5)
    assert cells.measured.tolist() == [True, False, True]
    assert next(iter(CellLoader(cells, np.arange(3), 3)))["measured"].tolist() == [True, False, True]


def test_too_few_genes_in_common_are_refused_with_examples(counts):
    with pytest.raises(
        ValueError, match=r"needs 50% of its 3 genes, found 1 \(33%\); missing for example 'ENSG1', 'ENSG2'"
    ):
        match_genes(counts.var_names, ["ENSG1", "gene_3", "ENSG2"], min_coverage=0.5)


def test_library_size_is_the_key_else_the_genes(counts):
    total = counts.X.toarray()
    np.testing.assert_allclose(read(counts, ["gene_1", "gene_2"]).library_size, np.maximum(total[:, 1:3].sum(1), 1))
    np.testing.assert_allclose(read(counts, ["gene_1"], library_size_key="missing").library_size, total.sum(1))
    counts.obs["depth"] = np.arange(120.0)
    np.testing.assert_allclose(read(counts, library_size_key="depth").library_size, np.maximum(np.arange(120), 1))


def test_batches_are_matched_by_name_and_new_ones_marked(build_counts):
    counts = build_counts(n_batches=3)
    cells = read(counts, batch_key="donor", batches=["donor_2", "donor_0"])
    expected = counts.obs["donor"].map({"donor_2": 0, "donor_0": 1, "donor_1": -1}).to_numpy()
    np.testing.assert_array_equal(cells.batch, expected)
    with pytest.raises(KeyError, match="'site' is not in adata.obs, which has cell_type, donor"):
        read(counts, batch_key="site")
    counts.obs["site"] = ["a"] * 119 + [None]
    with pytest.raises(ValueError, match=r"obs\['site'\] must have a value .* 1 missing, the first in cell 'cell_119'"):
        read(counts, batch_key="site", batches=["a"])


@pytest.mark.parametrize("chunk", [7, 8192])
def test_statistics_equal_the_dense_formula(build_counts, monkeypatch, chunk):
    monkeypatch.setattr("sc_ssl.data.rows.CHUNK", chunk)
    counts = build_counts(n_batches=2)
    cells = read(counts, batch_key="donor", batches=["donor_0", "donor_1"])
    target, mean, sd = gene_statistics(cells, n_batch=2, log_input=False)
    x = counts.X.toarray().astype(float)
    assert target == np.median(x.sum(1))
    logged = np.log1p(x / x.sum(1, keepdims=True) * target)
    for row, member in enumerate([slice(None), cells.batch == 0, cells.batch == 1]):
        np.testing.assert_allclose(mean[row], logged[member].mean(0), atol=1e-6)
        np.testing.assert_allclose(sd[row], logged[member].std(0), atol=1e-6)


def test_a_gene_that_does_not_vary_has_sd_one(counts):
    counts.X = np.c_[counts.X.toarray()[:, :1], np.zeros((120, 95))]
    _, mean, sd = gene_statistics(read(counts), n_batch=1, log_input=False)
    assert (sd[:, 1:] == 1).all() and (mean[:, 1:] == 0).all()


def test_taken_cells_are_those_asked_for(counts, backed):
    index = np.array([2, 50, 51])
    for adata in (counts, backed):
        cells = read(adata, ["gene_5", "gene_1"]).take(index)
        np.testing.assert_array_equal(cells.rows(np.arange(3)).toarray(), counts.X[index][:, [5, 1]].toarray())
        np.testing.assert_array_equal(cells.library_size, read(counts, ["gene_5", "gene_1"]).library_size[index])
        assert next(iter(CellLoader(cells, np.arange(3), 3)))["X"].shape == (3, 2)


@pytest.mark.parametrize("batched", [False, True])
def test_gene_weights_are_the_fourth_root_of_the_excess_variance_of_pearson_residuals(build_counts, batched):
    counts = build_counts(n_batches=2)
    options = {"batch_key": "donor", "batches": ["donor_0", "donor_1"]} if batched else {}
    cells = read(counts, **options)
    x, residual = counts.X.toarray().astype(float), np.empty(counts.shape)
    for code in np.unique(cells.batch):
        of_batch = x[cells.batch == code]
        expected = of_batch.sum(1, keepdims=True) * of_batch.sum(0) / of_batch.sum()
        residual[cells.batch == code] = (of_batch - expected) / np.sqrt(expected + expected**2 / 100)
    weight = np.maximum(np.mean(np.clip(residual, -(120**0.5), 120**0.5) ** 2, axis=0) - 1, 0) ** 0.25
    np.testing.assert_allclose(gene_weights(cells), weight / np.sqrt(np.mean(weight**2)), rtol=1e-4)


def test_markers_weigh_more_than_chance_and_a_batch_adds_nothing(build_counts):
    counts = build_counts(n_cells=600, n_batches=2)
    of_second = (counts.obs["donor"] == "donor_1").to_numpy()
    x = counts.X.toarray()
    x[np.ix_(of_second, [90])] += 30  # no marker, but one donor has far more of it
    counts.X = sparse.csr_matrix(x)
    weight = gene_weights(read(counts, batch_key="donor", batches=["donor_0", "donor_1"]))
    assert np.median(weight[:48]) > 2 * np.median(weight[48:])  # the first 48 genes are markers
    assert gene_weights(read(counts))[90] > 1.3 * weight[90]


def test_genes_that_differ_by_chance_alone_weigh_the_same(counts):
    counts.X = sparse.csr_matrix(np.ones((120, 96), np.float32))
    np.testing.assert_array_equal(gene_weights(read(counts)), np.ones(96))


def test_the_loader_visits_every_cell_once(counts):
    loader = CellLoader(read(counts), np.arange(100), 32, shuffle=True)
    batches = [minibatch["X"] for minibatch in loader]
    assert [len(x) for x in batches] == [32, 32, 32, 4] and len(loader) == 4
    seen = torch.cat(batches).sum(1).sort().values
    np.testing.assert_array_equal(seen, np.sort(counts.X[:100].toarray().sum(1)))


def test_a_last_smaller_minibatch_is_dropped_when_asked(counts):
    assert [len(m["X"]) for m in CellLoader(read(counts), np.arange(97), 32, drop_last=True)] == [32, 32, 32]


def test_held_out_cells_are_not_trained_on(counts):
    module = CellDataModule(read(counts), 500, validation_size=0.1)
    assert (module.n_val, module.n_train, module.batch_size) == (12, 108, 108)
    assert sorted([*module.train_idx, *module.val_idx]) == list(range(120))


def test_rows_of_an_unknown_type_are_refused():
    with pytest.raises(TypeError, match="found list"):
        to_csr([[1.0]])


def test_a_count_in_parts_is_summed(counts):
    parts = sparse.csr_matrix((np.array([1.0, 2.0]), np.array([3, 3]), np.array([0, 2])), shape=(1, 96))
    assert to_csr(parts)[0, 3] == 3 and len(parts.data) == 2


def test_a_library_size_that_is_none_is_named(counts):
    counts.obs["depth"] = [np.nan if i == 4 else 10.0 for i in range(120)]
    with pytest.raises(ValueError, match=r"obs\['depth'\] must hold library sizes .* found nan in cell 'cell_4'"):
        read(counts, library_size_key="depth")


def test_a_batch_without_cells_takes_the_statistics_of_all(build_counts):
    cells = read(build_counts(n_batches=2), batch_key="donor", batches=["donor_0", "donor_1", "empty"])
    _, mean, sd = gene_statistics(cells, n_batch=3, log_input=False)
    np.testing.assert_array_equal(mean[3], mean[0])
    np.testing.assert_array_equal(sd[3], sd[0])


def test_the_last_weighed_draw_is_within_the_cells(monkeypatch):
    """A point drawn at the very end is rounded up beyond the last weight when it is not kept in float64."""
    monkeypatch.setattr(torch, "rand", lambda *_: torch.tensor(1 - 2.0**-24))
    for n in (6649, 9973, 20011):
        weight = np.random.default_rng(n).uniform(0.1, 0.9, n)
        cells = Cells(
            sparse.csr_matrix((n, 1), dtype=np.float32), np.arange(1), np.ones(n, np.float32), np.zeros(n, int)
        )
        loader = CellLoader(replace(cells, weight=weight), np.arange(n), n, shuffle=True)
        assert [len(minibatch["batch"]) for minibatch in loader] == [n]


@pytest.mark.parametrize(
    ("names", "remedy"),
    [
        (
            [f"Gene{i}" for i in range(9)],
            "named as human, those of the data as mouse: map them by .*target=model.var_names",
        ),
        ([f"ENSG{i:011}" for i in range(9)], "named by symbols, those of the data by Ensembl ids: rename them"),
        ([f"ENSG{i:011}" if i % 2 else f"GENE{i}x" for i in range(9)], "Besides, gene names must be of one kind"),
        ([f"OTHER{i}" for i in range(9)], "Use the same names, and pass all genes"),
    ],
)
def test_a_remedy_goes_by_how_genes_are_named(names, remedy):
    with pytest.raises(ValueError, match=remedy):
        check_coverage(pd.Index(names), [f"GENE{i}" for i in range(9)], 0.5)
