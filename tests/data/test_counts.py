import anndata
import numpy as np
import pytest
from scipy import sparse

from sc_ssl.data import LightAnnData, check_cells, describe_matrix, find_layer, read_counts


def test_verdicts_on_counts_log_and_scaled(counts):
    x = counts.X.toarray()
    assert describe_matrix(counts.X) == "counts"
    assert describe_matrix(np.log1p(x)) == "log1p"
    assert describe_matrix(x - x.mean(0)) == "scaled"
    assert describe_matrix(sparse.csr_matrix((5, 4))) == "counts"


def test_verdict_is_the_same_for_every_storage(counts):
    x = counts.X.toarray()
    for matrix in (x, x.astype(int), sparse.csc_matrix(x), sparse.csr_array(x), x.astype(np.float64)):
        assert describe_matrix(matrix) == "counts"


def test_a_few_fractions_among_many_counts_are_seen_every_time(build_counts):
    counts = build_counts(n_cells=600)
    counts.X.data[:: len(counts.X.data) // 500] += 0.5
    assert {describe_matrix(counts.X) for _ in range(5)} == {"corrected"}


def test_verdict_draws_no_random_number(counts):
    before = np.random.get_state()[1].copy()
    describe_matrix(counts.X)
    assert np.array_equal(before, np.random.get_state()[1])


# which matrix


def test_counts_are_looked_for_in_the_layer_then_counts_then_x(counts):
    counts.raw = counts
    assert read_counts(counts).name == "X"
    counts.layers["counts"], counts.layers["other"] = counts.X.copy(), counts.X.copy()
    assert read_counts(counts).name == "layers['counts']"
    assert read_counts(counts, "other").name == "layers['other']"
    with pytest.raises(KeyError, match="layer 'raw' is not in adata.layers, which has counts, other"):
        read_counts(counts, "raw")


def test_the_layer_of_a_models_training_cells_need_not_be_there(counts):
    assert find_layer(counts, "umis", registered=True) is None
    counts.layers["counts"] = counts.X
    assert find_layer(counts, "umis", registered=True) == "counts"
    counts.layers["umis"] = counts.X
    assert find_layer(counts, "umis", registered=True) == "umis"


def test_what_is_not_raw_counts_is_not_looked_for_among_the_counts(counts):
    counts.layers["counts"], counts.X = counts.X, counts.X.log1p()
    assert read_counts(counts, input="log1p").name == "X"
    assert read_counts(counts, input="scaled").name == "X"
    assert read_counts(counts, input=None).name == "layers['counts']"


def test_without_x_the_message_asks_for_a_layer(counts):
    counts.X = None
    with pytest.raises(ValueError, match="adata.X is empty; name the layer"):
        read_counts(counts)


# what is refused


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (np.log1p, r"X must hold raw counts .* found log-normalised values .* pass input='log1p'"),
        (lambda x: x - 1, r"X must hold raw counts .* found scaled values .*layers\['counts'\]"),
    ],
    ids=["log1p", "scaled"],
)
def test_what_is_no_count_is_refused_with_the_remedy(counts, transform, message):
    counts.X = transform(counts.X.toarray())
    with pytest.raises(ValueError, match=message):
        read_counts(counts)


def test_counts_passed_off_as_log_values_are_refused(counts):
    with pytest.raises(ValueError, match="leave out input='log1p'"):
        read_counts(counts, input="log1p")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -3.0])
@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("input", ["counts", "scaled"])
def test_a_bad_value_is_named_with_its_cell_and_gene(build_counts, value, dense, input):
    counts = build_counts(n_cells=2000)  # more than are looked at to describe the matrix
    x = counts.X.toarray()
    x[1718, 42] = value
    counts.X = x if dense else sparse.csr_matrix(x)
    if (input, value) == ("scaled", -3.0):
        assert read_counts(counts, input="scaled").kind == "scaled"
        return
    with pytest.raises(ValueError, match=rf"found {value} in cell 'cell_1718', gene 'gene_42'"):
        read_counts(counts, input=input)


def test_cells_and_names_are_checked(counts):
    with pytest.raises(TypeError, match="expected an AnnData, found ndarray"):
        check_cells(np.ones(3))
    with pytest.raises(ValueError, match="at least 2 cells are needed, found 1"):
        check_cells(counts[:1])
    with pytest.raises(ValueError, match="at least one gene is needed"):
        check_cells(counts[:, :0])
    counts.var_names = ["twice", "twice", *counts.var_names[2:]]
    with pytest.raises(ValueError, match="must be unique, found 1 more than once, for example 'twice'"):
        check_cells(counts)
    assert read_counts(counts, unique_genes=False).n_obs == 120


# what is handed on


@pytest.mark.parametrize("backed", [False, True])
def test_library_sizes_are_over_all_genes_also_of_a_part(counts, tmp_path, backed):
    x = counts.X.toarray()
    expected, part = x.sum(axis=1), x[:, [7, 3]]
    if backed:
        counts.write_h5ad(tmp_path / "counts.h5ad")
        counts = anndata.read_h5ad(tmp_path / "counts.h5ad", backed="r")
    found = read_counts(counts)
    np.testing.assert_array_equal(found.library_size, expected)
    some = found.take_genes(["gene_7", "gene_3"])
    np.testing.assert_array_equal(some.matrix.toarray(), part)
    np.testing.assert_array_equal(some.library_size, expected)
    assert list(some.var_names) == ["gene_7", "gene_3"]


def test_cells_of_our_own_are_not_looked_at_again(counts, monkeypatch):
    light = LightAnnData(read_counts(counts).take_genes(counts.var_names[:9]))
    light.obs["batch"] = "a"
    monkeypatch.setattr("sc_ssl.data.counts.describe_values", lambda matrix: pytest.fail("it was looked at"))
    found = read_counts(light)
    assert found.matrix is light.X
    assert "batch" in found.obs and "batch" not in counts.obs
    np.testing.assert_array_equal(found.library_size, counts.X.toarray().sum(axis=1))


def test_cells_of_our_own_that_were_changed_are_looked_at_again(counts):
    light = LightAnnData(read_counts(counts))
    for changed in (light.copy(), light[:50], light[:, ::-1]):
        np.testing.assert_array_equal(read_counts(changed).matrix.toarray(), changed.X.toarray())
    light.X = light.X.log1p()
    with pytest.raises(ValueError, match="found log-normalised values"):
        read_counts(light)
    with pytest.raises(ValueError, match="leave out input='log1p'"):
        read_counts(LightAnnData(read_counts(counts)), input="log1p")
