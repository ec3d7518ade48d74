"""Data sets by name: those of :mod:`sc_ssl.datasets`, and any h5ad file in the folders of ``SC_SSL_DATA``."""

import os
from pathlib import Path

import anndata
from anndata import AnnData

from sc_ssl import datasets


def load(name: str) -> AnnData:
    """Raw counts with ``obs["cell_type"]``; cells without a type are left out."""
    if name in datasets.__all__:
        return getattr(datasets, name)()
    folders = os.environ.get("SC_SSL_DATA", "").split(os.pathsep)
    found = [path for folder in folders if folder and (path := Path(folder) / f"{name}.h5ad").is_file()]
    if not found:
        raise FileNotFoundError(
            f"{name!r} is no function of sc_ssl.datasets ({', '.join(datasets.__all__)}), and {name}.h5ad is in none of "
            f"the folders of SC_SSL_DATA ({os.environ.get('SC_SSL_DATA') or 'not set'})."
        )
    adata = anndata.read_h5ad(found[0])
    return adata[adata.obs["cell_type"].notna()].copy()
