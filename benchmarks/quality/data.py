"""Data sets by name: those of :mod:`sc_ssl.datasets`, and any h5ad file in the folders of ``SC_SSL_DATA``."""

import os
from collections.abc import Sequence
from pathlib import Path

import anndata
from anndata import AnnData

from sc_ssl import datasets
from sc_ssl.data import describe_matrix


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
    path = find(f"{name}.h5ad")
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
    path = find(filename)
    if path is None:
        raise FileNotFoundError(f"{filename} is in none of the folders that SC_SSL_DATA names.")
    return path


def find(filename: str) -> Path | None:
    """The first file of that name in the folders of ``SC_SSL_DATA``, None where there is none."""
    folders = [Path(folder).expanduser() for folder in os.environ.get("SC_SSL_DATA", "").split(os.pathsep) if folder]
    return next((folder / filename for folder in folders if (folder / filename).is_file()), None)
