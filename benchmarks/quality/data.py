"""Data sets by name: those of :mod:`sc_ssl.datasets`, and any h5ad file in the folders of ``SC_SSL_DATA``."""

from collections.abc import Sequence
from pathlib import Path

import anndata
from anndata import AnnData

from sc_ssl import datasets
from sc_ssl.data import describe_matrix
from sc_ssl.datasets._fetch import find_local


def load(name: str) -> AnnData:
    """Raw counts with ``obs["cell_type"]``; cells without a type are left out."""
    adata = load_all(name)
    if "cell_type" not in adata.obs:
        raise ValueError(f"{name} should have the cells' types in obs['cell_type'], but obs has {list(adata.obs)}.")
    return adata[adata.obs["cell_type"].notna()].copy()


def load_all(name: str) -> AnnData:
    """Raw counts of all cells, also those without a type."""
    if name in datasets.__all__:
        return getattr(datasets, name)()
    path = find_local(f"{name}.h5ad")
    if path is None:
        raise FileNotFoundError(
            f"{name!r} is no function of sc_ssl.datasets ({', '.join(datasets.__all__)}), and {name}.h5ad is in none of "
            "the folders that SC_SSL_DATA names."
        )
    return anndata.read_h5ad(path)


def check(names: Sequence[str], *, needs: Sequence[str] = (), counts: bool = True) -> None:
    """An error unless all data sets are there, with types and ``counts`` where these are read, and all files needed."""
    for name in names:
        found = describe_matrix((load if counts else load_all)(name).X)
        if counts and found != "counts":
            raise ValueError(f"{name} should have raw counts in X, but its values are {found}.")
    for filename in needs:
        resource(filename)


def resource(filename: str) -> Path:
    """A file in the folders of ``SC_SSL_DATA``."""
    path = find_local(filename)
    if path is None:
        raise FileNotFoundError(f"{filename} is in none of the folders that SC_SSL_DATA names.")
    return path
