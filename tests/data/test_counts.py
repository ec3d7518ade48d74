import numpy as np
import pytest
from scipy import sparse

from sc_ssl.data import check_cells, check_kind, check_values, describe_matrix, find_counts, find_matrix


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
    assert {describe_matrix(counts.X) for _ in range(5)} == {"log1p"}


def test_verdict_draws_no_random_number(counts):
    before = np.random.get_state()[1].copy()
    describe_matrix(counts.X)
    assert np.array_equal(before, np.random.get_state()[1])


def test_counts_are_looked_for_in_the_layer_then_counts_then_x(counts):
    counts.raw = counts
    assert find_counts(counts).name == "X"
    counts.layers["counts"], counts.layers["other"] = counts.X.copy(), counts.X.copy()
    assert find_counts(counts).name == "layers['counts']"
    assert find_counts(counts, "other").name == "layers['other']"
    with pytest.raises(KeyError, match="layer 'raw' is not in adata.layers, which has counts, other"):
        find_counts(counts, "raw")


def test_without_x_the_message_asks_for_a_layer(counts):
    counts.X = None
    with pytest.raises(ValueError, match="adata.X is empty; name the layer"):
        find_matrix(counts)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (np.log1p, r"X must hold raw counts .* found log-normalised values .* say so with input='log1p'"),
        (lambda x: x - 1, r"X must hold raw counts .* found scaled values .*layers\['counts'\]"),
    ],
    ids=["log1p", "scaled"],
)
def test_what_is_no_count_is_refused_with_the_remedy(counts, transform, message):
    counts.X = transform(counts.X.toarray())
    with pytest.raises(ValueError, match=message):
        check_kind(find_counts(counts), "counts")


def test_counts_passed_off_as_log_values_are_refused(counts):
    with pytest.raises(ValueError, match="leave out input='log1p'"):
        check_kind(find_counts(counts), "log1p")


@pytest.mark.parametrize("value", [np.nan, np.inf, -3.0])
@pytest.mark.parametrize("dense", [True, False])
def test_a_bad_value_is_named_with_its_cell_and_gene(counts, value, dense):
    x = counts.X.toarray()
    x[17, 42] = value
    counts.X = x if dense else sparse.csr_matrix(x)
    with pytest.raises(ValueError, match=rf"found {value} in cell 'cell_17', gene 'gene_42'"):
        check_values(find_counts(counts), counts)


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
