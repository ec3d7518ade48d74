"""Matrices that stay on disk: one interface to every way in which an AnnData, or several, can hold them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import numpy as np
import zarr
from anndata.abc import CSCDataset, CSRDataset
from scipy import sparse

from .rows import in_order, to_csr

#: gaps of so many rows between rows that are wanted are read too: one long read is cheaper than two
MAX_GAP = 8


class Source(ABC):
    """A matrix of cells × genes from which rows are read.

    Attributes
    ----------
    shape
        Number of cells and of genes.
    """

    shape: tuple[int, int]

    @abstractmethod
    def read(self, index: np.ndarray) -> sparse.csr_matrix:
        """Rows at increasing positions without repeats, CSR float32."""

    def __getitem__(self, rows: slice | np.ndarray) -> sparse.csr_matrix:
        """Rows, by a slice, by a boolean mask or by increasing positions."""
        index = np.arange(self.shape[0])[rows] if isinstance(rows, slice) else np.asarray(rows)
        return self.read(np.flatnonzero(index) if index.dtype == bool else index)


class Stored(Source):
    """A CSR or dense array of an h5ad file or a zarr store, or a dask array, read in runs of neighbouring rows.

    Parameters
    ----------
    matrix
        What the AnnData holds.
    """

    def __init__(self, matrix: Any) -> None:
        self.matrix = matrix
        self.shape = tuple(matrix.shape)
        self._is_csr = isinstance(matrix, CSRDataset)
        self._where = _file_of(matrix.group if self._is_csr else matrix)
        if self._is_csr:  # whole in memory, 8 bytes a cell
            self._indptr = np.asarray(matrix.group["indptr"][...], dtype=np.int64)
            self._data, self._indices = matrix.group["data"], matrix.group["indices"]

    def read(self, index: np.ndarray) -> sparse.csr_matrix:
        """Rows at increasing positions; an error that says so when the file is damaged or gone."""
        if not len(index):
            return sparse.csr_matrix((0, self.shape[1]), dtype=np.float32)
        if not isinstance(self.matrix, CSRDataset | h5py.Dataset | zarr.Array):
            return to_csr(_in_memory(self.matrix[index]))  # dask
        try:
            parts = [self._run(first, stop)[index[rows] - first] for rows, first, stop in _runs(index)]
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise OSError(
                f"cells {index[0]} to {index[-1]} of {self._where} cannot be read ({error}): the file is cut off, "
                "damaged, or no longer there. Write it once more; a training goes on from its checkpoint."
            ) from error
        return parts[0] if len(parts) == 1 else sparse.vstack(parts, format="csr")

    def _run(self, first: int, stop: int) -> sparse.csr_matrix:
        if not self._is_csr:
            return to_csr(np.asarray(self.matrix[first:stop]))
        values = slice(self._indptr[first], self._indptr[stop])
        data, indices = np.asarray(self._data[values], np.float32), np.asarray(self._indices[values])
        # a zarr store whose chunks are gone reads as zeros without an error, which would be one gene many times
        if len(indices) > stop - first and not indices.any() and not data.any():
            raise OSError("its values are missing")
        if len(data) < values.stop - values.start:
            raise OSError("it ends early")
        return to_csr(
            sparse.csr_matrix(
                (data, indices, self._indptr[first : stop + 1] - values.start), (stop - first, self.shape[1])
            )
        )


class Part(Source):
    """Some rows and columns of a source, a view of it.

    Parameters
    ----------
    source
        The whole.
    row_n
        Which rows, in this order; ``None`` for all.
    column_g
        Which columns, in this order; −1 for an empty one; ``None`` for all.
    """

    def __init__(self, source: Source, row_n: np.ndarray | None = None, column_g: np.ndarray | None = None) -> None:
        self.source, self.row_n, self.column_g = source, row_n, column_g
        n, m = source.shape
        self.shape = (n if row_n is None else len(row_n), m if column_g is None else len(column_g))

    def read(self, index: np.ndarray) -> sparse.csr_matrix:
        """Rows at increasing positions of the part, wherever they lie in the whole."""
        if self.row_n is None:
            rows = self.source.read(index)
        else:
            unique, inverse = np.unique(self.row_n[index], return_inverse=True)
            rows = self.source.read(unique)
            rows = rows if np.array_equal(inverse, np.arange(len(unique))) else rows[inverse]
        return rows if self.column_g is None else in_order(rows, self.column_g)


class InMemory(Source):
    """A matrix in memory, where one is wanted beside others that are not."""

    def __init__(self, matrix: Any) -> None:
        self.matrix = to_csr(matrix)
        self.shape = self.matrix.shape

    def read(self, index: np.ndarray) -> sparse.csr_matrix:
        """Rows at these positions."""
        return self.matrix[index]


class Joined(Source):
    """Several matrices of the same genes, one below the other.

    Parameters
    ----------
    parts
        From top to bottom.
    """

    def __init__(self, parts: Sequence[Source]) -> None:
        self.parts = parts
        self._start = np.cumsum([0, *(part.shape[0] for part in parts)])
        self.shape = (int(self._start[-1]), parts[0].shape[1])

    def read(self, index: np.ndarray) -> sparse.csr_matrix:
        """Rows at increasing positions, each from the part where it lies."""
        bounds = np.searchsorted(index, self._start)
        found = [
            part.read(index[first:stop] - start)
            for part, start, first, stop in zip(self.parts, self._start, bounds, bounds[1:], strict=False)
            if stop > first
        ]
        return sparse.vstack(found, format="csr") if found else sparse.csr_matrix((0, self.shape[1]), dtype=np.float32)


def as_source(matrix: Any, name: str) -> Any:
    """A matrix in memory as it is, any other as a source.

    Raises
    ------
    ValueError
        CSC on disk, of which every cell would cost a pass over the whole file.
    TypeError
        No matrix that is known.
    """
    if isinstance(matrix, np.ndarray | Source) or sparse.issparse(matrix):
        return matrix
    if isinstance(matrix, CSCDataset):
        raise ValueError(
            f"{name} is stored on disk by gene (CSC), so that each minibatch of cells would read all of it; store it by cell: "
            "adata = adata.to_memory(); adata.X = adata.X.tocsr(); adata.write_h5ad(path), which needs its memory once."
        )
    if isinstance(matrix, CSRDataset | h5py.Dataset | zarr.Array) or hasattr(matrix, "dask"):
        return Stored(matrix)
    raise TypeError(
        f"expected a NumPy array or a SciPy sparse matrix, or one of an h5ad file, a zarr store or dask in {name}, found "
        f"{type(matrix).__name__}; convert it, for example with scipy.sparse.csr_matrix."
    )


def _runs(index: np.ndarray) -> Iterator[tuple[slice, int, int]]:
    """Runs of increasing positions: where each stands in ``index``, its first row and the row after its last."""
    bounds = [0, *(np.flatnonzero(np.diff(index) > MAX_GAP) + 1), len(index)]
    for first, stop in zip(bounds, bounds[1:], strict=False):
        yield slice(first, stop), int(index[first]), int(index[stop - 1]) + 1


def _in_memory(lazy: Any) -> Any:
    return lazy.compute(scheduler="synchronous")


def _file_of(stored: Any) -> str:
    if isinstance(stored, h5py.Group | h5py.Dataset):
        return str(stored.file.filename)
    return str(getattr(stored, "store_path", type(stored).__name__))
