"""An AnnData of cells that stay on disk."""

from typing import Any

from anndata import AnnData

from sc_ssl.data import check_cells, opened


def open_cells(adata: Any) -> AnnData:
    """An AnnData that can be registered and written to, of cells that are read when they are needed.

    Every function reads an ``AnnCollection``, an AnnData of :func:`anndata.experimental.read_lazy` and a view of an h5ad
    file that was opened with ``backed="r"`` as they are. None of these takes a result, or is marked by
    ``setup_anndata``: this does. The names and annotations of the cells are in memory, their counts stay on disk.

    Parameters
    ----------
    adata
        Cells on disk; any other AnnData comes back as it is.

    Returns
    -------
    An AnnData with ``obs`` and the names of the genes. Its ``X`` and layers are read from where they lie by functions of
    this package only; others see an empty ``X``.

    Raises
    ------
    TypeError
        No AnnData and no collection of some.
    ValueError
        Files of a collection that have under half of their genes in common; counts that are stored by gene (CSC).
    KeyError
        ``layers["counts"]`` in some files of a collection and not in others.

    Examples
    --------
    >>> import anndata, sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> both = anndata.experimental.AnnCollection({"a": adata, "b": adata.copy()}, index_unique="-")
    >>> cells = sc_ssl.pp.open_cells(both)
    >>> cells.shape
    (1400, 765)
    """
    cells = opened(adata)
    check_cells(cells, min_cells=1)
    return cells
