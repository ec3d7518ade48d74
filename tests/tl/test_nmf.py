"""Formulas of the factorisation, written out densely."""

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import nnls

from sc_ssl.data import Cells
from sc_ssl.tl import _nmf, _transfer


@pytest.fixture
def x(build_counts):
    """(60, 40) scaled log-expression."""
    adata = build_counts(60, 40)
    cells = Cells.from_anndata(adata, list(adata.var_names))
    return _nmf.Scale.of(cells)(cells.matrix, cells.library_size)


@pytest.fixture
def program(x):
    return _nmf.programs(x, 5, seed=0)


def error(x, z, w):
    return np.square(x.toarray() - z @ w).sum() / np.square(x.toarray()).sum()


def test_scale_is_log_expression_over_the_standard_deviation(build_counts):
    adata = build_counts(50, 30, depth=20)
    counts = adata.X.toarray()
    size = counts.sum(axis=1, keepdims=True)
    log = np.log1p(counts / size * np.median(size))
    cells = Cells.from_anndata(adata, list(adata.var_names))
    found = _nmf.Scale.of(cells)(cells.matrix, cells.library_size)
    np.testing.assert_allclose(found.toarray(), np.minimum(log / log.std(axis=0), 10), rtol=1e-4)
    assert found.max() == 10  # deep counts of a gene that varies little reach the cap


def test_coefficients_are_the_non_negative_least_squares(x, program):
    expected = [nnls(program.T, row)[0] for row in x.toarray()]
    np.testing.assert_allclose(_nmf.coefficients(x, program, tol=1e-6), expected, atol=1e-3)


def test_each_round_lowers_the_error(x, program):
    z, errors = np.zeros((60, 5), np.float32), []
    for _ in range(8):
        _nmf.descend(z, x @ program.T, program @ program.T)
        errors.append(error(x, z, program))
    assert (z >= 0).all()
    assert (np.diff(errors) <= 1e-7).all()
    assert errors[-1] < errors[0] < 1


def test_relative_error_is_that_of_the_dense_difference(x, program):
    z = _nmf.coefficients(x, program)
    assert _nmf.relative_error(x, z, program) == pytest.approx(error(x, z, program), rel=1e-4)


@pytest.mark.parametrize("theta", [0.0, 0.3, 1.0])
def test_products_of_the_mixture_are_those_of_the_dense_one(x, program, theta):
    z = _nmf.coefficients(x, program)
    dense = theta * z @ program + (1 - theta) * x.toarray()
    other_gp, other_np = np.random.rand(40, 3), np.random.rand(60, 3)
    mixture = _nmf.Mixture(x, z, program, theta)
    np.testing.assert_allclose(mixture.times(other_gp), dense @ other_gp, rtol=1e-3)
    np.testing.assert_allclose(mixture.transposed_times(other_np), dense.T @ other_np, rtol=1e-3)


def test_the_less_of_the_source_the_nearer_to_the_cells(x):
    other = _nmf.unit_rows(np.random.rand(5, 40).astype(np.float32))
    errors = []
    for theta in (0.0, 0.5, 1.0):
        mixed = _nmf.mixed_programs(x, other, theta)
        np.testing.assert_allclose(np.linalg.norm(mixed, axis=1), 1, rtol=1e-5)
        errors.append(_nmf.relative_error(x, _nmf.coefficients(x, mixed), mixed))
    assert errors[0] < errors[1] < errors[2]
    np.testing.assert_array_equal(_nmf.mixed_programs(x, other, 1.0), other)


@pytest.mark.parametrize("shape", [(60, 40), (30, 40)], ids=["more cells", "more genes"])
def test_alignment_is_the_cosine_of_centred_kernels(x, shape):
    x = x[: shape[0]]
    z = np.random.rand(shape[0], 4).astype(np.float32)
    centre = np.eye(shape[0]) - 1 / shape[0]
    k_x, k_z = (centre @ (m @ m.T) @ centre for m in (x.toarray(), z))
    expected = (k_x * k_z).sum() / np.linalg.norm(k_x) / np.linalg.norm(k_z)
    np.testing.assert_allclose(_nmf.kernel_target_alignments(x, [z, x.toarray()]), [expected, 1], rtol=1e-3)


def test_types_are_where_programmes_start(build_counts):
    """The programme of a type explains more of its cells than any other programme."""
    adata = build_counts(90, 60)
    cells = Cells.from_anndata(adata, list(adata.var_names))
    x = _nmf.Scale.of(cells)(cells.matrix, cells.library_size)
    type_n = adata.obs["cell_type"].cat.codes.to_numpy()
    z = _nmf.coefficients(x, _nmf.programs(x, 3, seed=0, type_n=type_n))
    assert [z[type_n == t].mean(axis=0).argmax() for t in range(3)] == [0, 1, 2]


def test_transferability_is_one_for_the_targets_own_programmes_and_nought_for_permuted_ones(x, program):
    rng = np.random.default_rng(0)
    own = _transfer.transferability(x, program, seed=0, rng=rng)
    assert own["score"] == pytest.approx(1, abs=0.01)
    assert own["p_value"] == 1 / (1 + _transfer.N_PERMUTATIONS)
    shuffled = program[:, rng.permutation(40)]
    other = _transfer.transferability(x, shuffled, seed=0, rng=rng)
    assert abs(other["score"]) < 0.5
    assert other["p_value"] > 0.02


def test_a_cell_without_counts_has_no_coefficients(x, program):
    empty = sparse.vstack([x, sparse.csr_matrix((1, 40), dtype=np.float32)], format="csr")
    np.testing.assert_array_equal(_nmf.unit_rows(_nmf.coefficients(empty, program))[-1], 0)
