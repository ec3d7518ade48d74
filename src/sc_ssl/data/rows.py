"""Rows and columns of a matrix in memory or on disk, as CSR."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy import sparse

CHUNK = 8192
#: neighbouring rows that are read at once where some are sampled from disk
SAMPLED_BLOCK = 32


def is_backed(matrix: Any) -> bool:
    """Whether the matrix stays on disk: a sparse or dense h5py or zarr array."""
    return not (isinstance(matrix, np.ndarray) or sparse.issparse(matrix))


def to_csr(matrix: Any) -> sparse.csr_matrix:
    """CSR, float32, sorted indices without duplicates; the same object when it already is.

    Raises
    ------
    TypeError
        Neither a NumPy array nor a SciPy matrix; masked or missing values; text, objects or complex numbers.
    """
    if isinstance(matrix, np.ndarray):
        matrix = _numbers(matrix)
    elif not sparse.issparse(matrix):
        raise TypeError(
            f"expected a NumPy array or a SciPy sparse matrix, in memory or backed, found {type(matrix).__name__}; "
            f"{_remedy(matrix)}."
        )
    elif matrix.dtype.kind not in "biuf":
        raise TypeError(
            f"the matrix must hold real numbers, found dtype {matrix.dtype}; convert it: .astype('float32')."
        )
    if not matrix.dtype.isnative:  # SciPy computes with the machine's byte order alone
        matrix = matrix.astype(np.float32)
    csr = matrix if isinstance(matrix, sparse.csr_matrix) else sparse.csr_matrix(matrix)
    csr = csr.astype(np.float32, copy=False)
    if not csr.has_canonical_format:  # unsorted, or a value in parts
        csr = csr.copy()
        csr.sum_duplicates()
    return csr


def _remedy(matrix: Any) -> str:
    if type(matrix).__module__.partition(".")[0] == "dask":
        return "load it first: adata = adata.to_memory(), or adata.X = adata.X.compute() for the layer at hand"
    return "convert it, for example with scipy.sparse.csr_matrix"


def _numbers(matrix: np.ndarray) -> np.ndarray:
    """A dense array in float32, of any type of number and byte order that NumPy has."""
    if isinstance(matrix, np.ma.MaskedArray):
        raise TypeError("the matrix is a masked array, whose hidden values are no zeros; fill them: adata.X.filled(0).")
    if matrix.dtype.kind in "biuf":
        return matrix.astype(np.float32, copy=False)
    refused = TypeError(
        f"the matrix must hold numbers, found dtype {matrix.dtype} with text, missing values or other objects; convert "
        "it: adata.X = adata.X.astype('float32')."
    )
    if matrix.dtype.kind != "O" or any(isinstance(value, str | bytes | complex) for value in matrix.flat):
        raise refused
    try:
        return matrix.astype(np.float32)
    except (TypeError, ValueError) as error:  # pandas' NA among others
        raise refused from error


def take_rows(matrix: Any, index: np.ndarray) -> sparse.csr_matrix:
    """Rows in the order of ``index``, repeats included; disk is read once a row and in its own order."""
    if not is_backed(matrix):
        return to_csr(matrix[index])
    unique, inverse = np.unique(index, return_inverse=True)
    rows = to_csr(matrix[unique])
    return rows if np.array_equal(unique, index) else rows[inverse]


def evenly_spread(n: int, at_most: int, *, block: int = 1) -> np.ndarray:
    """Positions of at most so many of n rows, the first and the last among them; always the same.

    In blocks of neighbouring rows they are read faster from disk.
    """
    if n <= at_most or block == 1:
        return np.unique(np.linspace(0, n - 1, min(n, at_most)).astype(int))
    first = evenly_spread(n - block + 1, max(at_most // block, 1))
    return np.unique(first[:, None] + np.arange(block))


def representative(batch_n: np.ndarray, at_most: int, *, block: int = 1) -> np.ndarray:
    """Positions of at most so many cells, evenly spread in each batch, which is there in proportion to its size.

    However small, a batch has its own part in a fifth of all: one of few cells is there with all of them.
    """
    n_b = np.unique(batch_n, return_counts=True)[1]
    if len(batch_n) <= at_most or len(n_b) == 1:
        return evenly_spread(len(batch_n), at_most, block=block)
    share_b = at_most * n_b / len(batch_n)
    least_b = np.minimum(n_b, at_most // (5 * len(n_b)))
    small = share_b < least_b
    wanted_b = np.where(small, least_b, share_b * (at_most - least_b[small].sum()) / share_b[~small].sum()).astype(int)
    members = np.split(np.argsort(batch_n, kind="stable"), np.cumsum(n_b)[:-1])
    found = [m[evenly_spread(len(m), k, block=block)] for m, k in zip(members, wanted_b, strict=True) if k]
    return np.sort(np.concatenate(found))


def positions(n_cells: int, indices: Sequence[int] | np.ndarray | None) -> np.ndarray:
    """Positions of the cells asked for, by position or by a boolean mask; of all by default."""
    index = np.arange(n_cells)
    if indices is None:
        return index
    return index[np.asarray(indices)] if len(indices) else index[:0]


def iter_chunks(matrix: Any) -> Iterator[tuple[slice, sparse.csr_matrix]]:
    """All rows in order, a chunk at a time: ``(rows, CSR)``."""
    if sparse.issparse(matrix):
        matrix = to_csr(matrix)  # once: rows of a CSC matrix cost a pass over all of it
    for start in range(0, matrix.shape[0], CHUNK):
        rows = slice(start, min(start + CHUNK, matrix.shape[0]))
        yield rows, _view(matrix, rows) if sparse.issparse(matrix) else to_csr(matrix[rows])


def _view(csr: sparse.csr_matrix, rows: slice) -> sparse.csr_matrix:
    """Neighbouring rows without a copy of their values; not to be written to."""
    first, last = csr.indptr[rows.start], csr.indptr[rows.stop]
    parts = csr.data[first:last], csr.indices[first:last], csr.indptr[rows.start : rows.stop + 1] - first
    view = sparse.csr_matrix(parts, shape=(rows.stop - rows.start, csr.shape[1]), copy=False)
    view.has_canonical_format = True  # as to_csr made it
    return view


def one_hot(code_n: np.ndarray, n_codes: int | None = None) -> sparse.csr_matrix:
    """Which group each row is of, (n, number of groups) float64; by default as many groups as codes from 0 on."""
    n = len(code_n)
    shape = (n, int(code_n.max()) + 1 if n_codes is None else n_codes)
    return sparse.csr_matrix((np.ones(n), (np.arange(n), code_n)), shape=shape)


def in_order(matrix: sparse.csr_matrix, column_g: np.ndarray) -> sparse.csr_matrix:
    """Take columns in the order ``column_g``; −1 gives an empty one. One sparse product, CSR in and CSR out."""
    if np.array_equal(column_g, np.arange(matrix.shape[1])):
        return matrix
    present = np.flatnonzero(column_g >= 0)
    selector = sparse.csr_matrix(
        (np.ones(len(present), np.float32), (column_g[present], present)), shape=(matrix.shape[1], len(column_g))
    )
    return to_csr(matrix @ selector)
