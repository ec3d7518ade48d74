"""What matrices hold, in every layout, type and order, and names as text."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from conftest import make_counts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from sc_ssl._names import as_names, as_text
from sc_ssl.data import Cells, describe_matrix, gene_names, locate_genes, read_counts, warn_of_features
from sc_ssl.pp import align_genes, check_counts, select_genes

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LAYOUTS = {
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "csr array": sparse.csr_array,
    "csc array": sparse.csc_array,
    "dense": np.asarray,
    "fortran": np.asfortranarray,
    "strided": lambda x: np.repeat(x, 2, axis=0)[::2],
    "read-only": lambda x: (x.setflags(write=False), x)[1],
}
DTYPES = ["f2", "<f4", ">f4", "<f8", ">f8", "i1", "u2", ">i4", "i8", "O"]


def unsorted(matrix):
    """The same matrix, each row's values in another order."""
    matrix = matrix.tocsr()
    order = np.concatenate([np.arange(a, b)[::-1] for a, b in zip(matrix.indptr, matrix.indptr[1:], strict=False)])
    return sparse.csr_matrix((matrix.data[order], matrix.indices[order], matrix.indptr), shape=matrix.shape)


@QUICK
@given(st.integers(0, 2**31), st.sampled_from(list(LAYOUTS)), st.sampled_from(DTYPES))
def test_the_same_counts_are_read_whatever_their_layout_and_type(seed, layout, dtype):
    x = np.random.default_rng(seed).poisson(0.7, (12, 9)).astype(np.float32)
    if "cs" in layout and dtype in ("f2", "O"):
        return  # SciPy has none
    adata = ad.AnnData(sparse.csr_matrix((12, 9)), var=pd.DataFrame(index=[f"g{i}" for i in range(9)]))
    if "cs" in layout and not np.dtype(dtype).isnative:  # as HDF5 files may hold them
        adata.X = LAYOUTS[layout](x)
        adata.X.data = adata.X.data.astype(dtype)
    else:
        adata.X = LAYOUTS[layout](x.astype(dtype))
    counts = read_counts(adata)
    assert counts.matrix.dtype == np.float32 and counts.matrix.has_canonical_format
    np.testing.assert_array_equal(counts.matrix.toarray(), x)
    np.testing.assert_array_equal(counts.library_size, x.sum(axis=1))


@QUICK
@given(st.integers(0, 2**31), st.permutations(range(9)))
def test_genes_are_read_in_the_order_asked_for(seed, order):
    x = np.random.default_rng(seed).poisson(0.7, (12, 9)).astype(np.float32)
    names = [f"g{i}" for i in range(9)]
    adata = ad.AnnData(unsorted(sparse.csr_matrix(x)), var=pd.DataFrame(index=names))
    cells = Cells.from_anndata(adata, [names[i] for i in order])
    np.testing.assert_array_equal(cells.matrix.toarray(), x[:, order])


# names

SCALARS = st.one_of(st.text(min_size=1, max_size=5), st.integers(-(10**6), 10**6), st.floats(allow_nan=False, width=32))


@QUICK
@given(st.lists(SCALARS, min_size=1, max_size=20))
def test_names_are_text_and_text_stays_as_it_is(values):
    names = as_names(values)
    assert all(isinstance(name, str) for name in names)
    assert list(as_names(names)) == list(names)
    assert list(as_names(pd.Categorical(names))) == list(names)


@QUICK
@given(st.integers(-(10**6), 10**6))
def test_a_whole_number_has_one_name(n):
    for value in (n, float(n), np.int32(n), np.float64(n), str(n)):
        assert as_text(value) == str(n)
    assert list(as_names([n, None, np.nan, float(n)])) == [str(n), None, None, str(n)]


def test_what_is_no_number_keeps_its_text():
    assert [as_text(value) for value in (True, b"TP53", 0.5, "1.0", "1e3")] == ["True", "TP53", "0.5", "1.0", "1e3"]


@QUICK
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20, unique=True))
def test_whole_numbers_name_genes_as_their_text_does(numbers):
    expected = [str(n) for n in numbers]
    for names in (
        pd.Index(numbers),
        pd.Index(numbers, dtype=float),
        pd.Index(expected),
        pd.Index(numbers, dtype=object),
    ):
        assert list(gene_names(names)) == expected


@QUICK
@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=20, unique=True), st.data())
def test_ensembl_ids_are_found_without_their_version(numbers, data):
    versions = st.sampled_from(["", ".1", ".17"])
    names = [f"ENSG{n:011d}{data.draw(versions)}" for n in numbers]
    wanted = [f"ENSG{n:011d}{data.draw(versions)}" for n in numbers][::-1]
    assert list(locate_genes(pd.Index(names), wanted)) == list(range(len(names)))[::-1]


def test_names_that_differ_in_their_version_alone_are_no_others():
    names = pd.Index(["ENSG00000000001.1", "ENSG00000000001.2", "AC004.1"])
    assert list(locate_genes(names, ["ENSG00000000001.2", "ENSG00000000001.3", "AC004.2"])) == [1, -1, -1]


def test_versions_are_compared_without_and_it_is_logged(counts, logged):
    plain = [f"ENSG{i:011d}" for i in range(96)]
    counts.var_names = [f"{name}.{i % 9 + 1}" for i, name in enumerate(plain)]
    aligned = align_genes(counts, plain[::-1])
    assert aligned.var["measured"].all()
    np.testing.assert_array_equal(aligned.X.toarray(), counts.X.toarray()[:, ::-1])
    assert "compared without their version" in logged()


# what the values are


def corrected(matrix, largest):
    matrix = matrix.copy()
    fraction = np.random.default_rng(0).uniform(0.7, 1, len(matrix.data))
    matrix.data = (np.minimum(matrix.data, largest) * fraction).astype(np.float32)
    return matrix


def normalized(matrix, total):
    return sparse.csr_matrix(matrix.multiply(total / matrix.sum(axis=1)).astype(np.float32))


@pytest.mark.parametrize("genes", [96, 40], ids=["all genes", "some genes"])
@pytest.mark.parametrize("total", [1, 30, 300, 1e4, 1e6])
def test_normalised_values_are_told_from_their_logarithm(total, genes):
    matrix = normalized(make_counts().X, total)[:, :genes]
    assert describe_matrix(matrix) == "normalized"
    assert describe_matrix(matrix.log1p()) == "log1p"
    assert describe_matrix(matrix.toarray()) == "normalized"


@pytest.mark.parametrize(("largest", "depth"), [(10, 0.5), (60, 3.0), (1e9, 3.0)])
def test_corrected_counts_are_told_from_logarithms(largest, depth):
    assert describe_matrix(corrected(make_counts(depth=depth).X, largest)) == "corrected"


def test_counts_may_be_whole_but_for_rounding(counts):
    expected = counts.X.toarray()
    counts.X.data += np.random.default_rng(0).uniform(-9e-4, 9e-4, len(counts.X.data)).astype(np.float32)
    assert check_counts(counts) == "counts"
    np.testing.assert_array_equal(read_counts(counts).matrix.toarray(), expected)


def test_one_count_a_cell_is_counts_and_genes_can_be_chosen():
    matrix = sparse.eye(20, format="csr", dtype=np.float32)
    assert describe_matrix(matrix) == "counts"
    adata = ad.AnnData(matrix, var=pd.DataFrame(index=[f"g{i}" for i in range(20)]))
    assert list(select_genes(adata, 5)) == [f"g{i}" for i in range(5)]


@pytest.mark.parametrize("where", ["layer", "x", "raw"])
def test_the_remedy_names_where_the_counts_are(counts, where):
    logs = normalized(counts.X, 1e4).log1p()
    counts.layers["logs"], counts.layers["umis"] = logs, counts.X.copy()
    if where == "layer":
        counts.X = logs
    elif where == "raw":
        counts.raw = counts.copy()
        counts.X = logs
        del counts.layers["umis"]
    layer, words = {"layer": (None, r"layer='umis'"), "x": ("logs", "X holds counts"), "raw": (None, "raw.to_adata")}[
        where
    ]
    with pytest.raises(ValueError, match=words):
        read_counts(counts, layer)


def test_features_that_are_no_genes_are_named(counts, warnings_logged):
    warn_of_features(counts)
    assert not warnings_logged()
    counts.var["feature_types"] = ["Antibody Capture"] * 3 + ["Gene Expression"] * 93
    counts.var_names = [*counts.var_names[:-2], "ERCC-00002", "ERCC-00171"]
    warn_of_features(counts)
    antibodies, spikes = warnings_logged()
    assert "3 of adata's 96 features" in antibodies and "'gene_0'" in antibodies and "Antibody Capture" in antibodies
    assert "2 of adata's features are spike-ins" in spikes and "ERCC-00002" in spikes
