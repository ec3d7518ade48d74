"""What a matrix holds, which genes vary, genes in a model's order."""

from functools import partial

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

from sc_ssl.models import MaskedAutoencoder
from sc_ssl.pp import align_genes, check_counts, read_gmt, select_genes
from sc_ssl.tl import embed


def by_scanpy(counts, batch_key=None):
    """The table of scanpy's normalised dispersion over all genes."""
    logged = counts.copy()
    sc.pp.normalize_total(logged)
    sc.pp.log1p(logged)
    return sc.pp.highly_variable_genes(logged, n_top_genes=logged.n_vars, batch_key=batch_key, inplace=False)


def test_batches_of_few_cells_show_no_variation(build_counts):
    counts = build_counts(200)
    counts.obs["donor"] = np.repeat(["large", "other"], 100)
    expected = select_genes(counts[:160], batch_key="donor")
    counts.obs["donor"] = np.r_[counts.obs["donor"][:160], [f"donor {i // 2}" for i in range(40)]]
    assert list(select_genes(counts, 20, batch_key="donor")) == list(expected[:20])
    counts.obs["donor"] = [f"donor {i // 2}" for i in range(200)]
    assert list(select_genes(counts, batch_key="donor")) == list(select_genes(counts))


# check_counts


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (lambda x: x, "counts"),
        (lambda x: x.astype(int), "counts"),
        (lambda x: x.toarray(), "counts"),
        (lambda x: x * 0, "counts"),
        (lambda x: np.log1p(x), "log1p"),
        (lambda x: x.toarray() / 3, "normalized"),
        (lambda x: x.toarray() - 1, "scaled"),
        (lambda x: x.toarray() - 0.5, "scaled"),
    ],
    ids=["csr", "int", "dense", "zeros", "log1p", "fractions", "negative integers", "z-scored"],
)
def test_verdict_is_what_the_matrix_holds(counts, change, verdict):
    counts.X = change(counts.X)
    assert check_counts(counts) == verdict


def test_verdict_is_on_the_layer_that_would_be_taken(counts):
    counts.layers["logged"] = np.log1p(counts.X)
    assert check_counts(counts) == "counts"
    assert check_counts(counts, layer="logged") == "log1p"
    counts.layers["counts"] = counts.X.copy()
    counts.X = np.log1p(counts.X)
    assert check_counts(counts) == "counts"


def test_verdict_on_backed_cells(counts, tmp_path):
    counts.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    assert check_counts(backed) == "counts"
    backed.file.close()


def test_a_lone_bad_value_is_named(counts):
    x = counts.X.toarray()
    x[7, 5] = np.nan
    counts.X = x
    for refuses in (check_counts, select_genes, partial(embed, method="mae"), MaskedAutoencoder.setup_anndata):
        with pytest.raises(ValueError, match="found nan in cell 'cell_7', gene 'gene_5'"):
            refuses(counts)


def test_unknown_layer_is_refused(counts):
    with pytest.raises(KeyError, match="layer 'umis' is not in adata.layers, which has none"):
        check_counts(counts, layer="umis")


# select_genes


@pytest.mark.parametrize("n_top_genes", [10, 96, 1000, None])
def test_genes_come_by_scanpys_normalised_dispersion(counts, n_top_genes):
    dispersion = by_scanpy(counts)["dispersions_norm"].set_axis(counts.var_names)
    selected = select_genes(counts, n_top_genes)
    assert len(selected) == min(n_top_genes or 96, 96)
    assert selected.is_unique
    assert (dispersion[selected].diff().iloc[1:] <= 0).all()
    assert set(selected) >= set(dispersion.index[dispersion > dispersion[selected].min()])


def test_genes_without_counts_are_never_selected(counts):
    x = counts.X.toarray()
    x[:, 20:40] = 0
    counts.X = sparse.csr_matrix(x)
    expected = select_genes(counts[:, (x > 0).any(axis=0)].copy(), None)
    assert list(select_genes(counts, None)) == list(expected)
    assert len(expected) == 76


def test_cells_without_counts_do_not_matter(counts):
    empty = counts[:5].copy()
    empty.X = empty.X * 0
    expected = select_genes(counts, None)
    assert list(select_genes(ad.concat([counts, empty], index_unique="-"), None)) == list(expected)


def test_genes_that_vary_within_many_batches_come_first(build_counts):
    counts = build_counts(300, n_batches=3)
    table = by_scanpy(counts, batch_key="donor")
    table = table.sort_index(key=lambda names: counts.var_names.get_indexer(names))
    ranked = table.sort_values(["highly_variable_nbatches", "dispersions_norm"], ascending=False, kind="stable").index
    assert list(select_genes(counts, 30, batch_key="donor")) == list(ranked[:30])


def test_a_gene_that_differs_only_between_batches_is_not_variable(build_counts):
    counts = build_counts(300, n_batches=2)
    x = counts.X.toarray()
    x[:, 90] = np.where(counts.obs["donor"] == "donor_0", 60, 1)
    counts.X = sparse.csr_matrix(x)
    assert "gene_90" in select_genes(counts, 20)
    assert "gene_90" not in select_genes(counts, 20, batch_key="donor")


def test_log_normalised_cells_give_the_same_genes_when_said(counts):
    expected = select_genes(counts, 30)
    sc.pp.normalize_total(counts)
    sc.pp.log1p(counts)
    assert list(select_genes(counts, 30, input="log1p")) == list(expected)
    with pytest.raises(ValueError, match="must hold raw counts"):
        select_genes(counts, 30)


@pytest.mark.parametrize(
    "convert", [lambda x: x.toarray(), sparse.csc_matrix, lambda x: x.astype(int)], ids=["dense", "csc", "int"]
)
def test_the_matrix_type_does_not_matter_and_cells_stay_unchanged(counts, convert):
    expected, before = select_genes(counts, 30), counts.X.toarray()
    counts.X = convert(counts.X)
    assert list(select_genes(counts, 30)) == list(expected)
    found = counts.X.toarray() if sparse.issparse(counts.X) else counts.X
    np.testing.assert_array_equal(found, before)
    assert counts.var.shape[1] == 0
    assert not counts.uns


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_top_genes": 0}, ValueError, "n_top_genes is at least 1, found 0"),
        ({"batch_key": "site"}, KeyError, "'site' is not in adata.obs"),
        ({"layer": "umis"}, KeyError, "layer 'umis' is not in"),
        ({"input": "tpm"}, ValueError, "input is 'counts' or 'log1p', found 'tpm'"),
    ],
)
def test_mistakes_in_selecting_are_refused(counts, options, error, message):
    with pytest.raises(error, match=message):
        select_genes(counts, **options)


# align_genes


def test_genes_are_brought_into_order(counts):
    wanted = [f"gene_{i}" for i in (5, 90, 0)]
    aligned = align_genes(counts, wanted)
    assert list(aligned.var_names) == wanted
    np.testing.assert_array_equal(aligned.X.toarray(), counts[:, wanted].X.toarray())
    pd.testing.assert_frame_equal(aligned.obs, counts.obs)
    assert aligned.var["measured"].all()


def test_missing_genes_are_empty_and_marked(counts):
    aligned = align_genes(counts, ["new", "gene_3", "gene_1"])
    assert list(aligned.var["measured"]) == [False, True, True]
    assert aligned.X[:, 0].nnz == 0
    assert aligned.X.dtype == np.float32


def test_the_original_and_its_alignment_share_no_values(counts):
    before = counts.X.toarray()
    aligned = align_genes(counts, counts.var_names)
    aligned.X.data[:] = -1
    aligned.obs["new"] = 1
    np.testing.assert_array_equal(counts.X.toarray(), before)
    assert "new" not in counts.obs


def test_too_few_and_repeated_genes_are_refused(counts):
    with pytest.raises(ValueError, match="needs 50% of its 3 genes, found 1 .* 'a', 'b'"):
        align_genes(counts, ["a", "b", "gene_1"])
    assert align_genes(counts, ["a", "b", "gene_1"], min_coverage=0).shape == (120, 3)
    with pytest.raises(ValueError, match="unique, found 'gene_1' more than once"):
        align_genes(counts, ["gene_1", "gene_1"])


def test_alignment_sums_columns_of_one_name(counts):
    counts.var_names = ["gene_1", *counts.var_names[1:]]
    aligned = align_genes(counts, ["gene_1", "gene_2"])
    np.testing.assert_array_equal(aligned.X.toarray()[:, 0], counts.X[:, :2].sum(axis=1).A1)


def test_read_gmt_reads_files_and_tables(tmp_path):
    (tmp_path / "sets.gmt").write_text("UP\t\tA\tB\n")
    assert read_gmt(tmp_path / "sets.gmt") == {"UP": ["A", "B"]}
    assert read_gmt(pd.DataFrame({"source": ["UP", "UP"], "target": ["A", "B"]})) == {"UP": ["A", "B"]}
