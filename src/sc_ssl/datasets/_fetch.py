"""One way to get a data set: a local folder first, then a download whose checksum is known."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

FOLDERS_VARIABLE = "SC_SSL_DATA"


@dataclass(frozen=True)
class Upstream:
    """Where a data set lies: one immutable file of a public repository, and the name of its local copy.

    Parameters
    ----------
    name
        Local copy: ``<name>.h5ad`` in a folder of ``SC_SSL_DATA``; also the value of ``obs["batch"]``.
    repository, commit, path
        The upstream file: ``owner/repository`` on GitHub, full commit hash, path inside the repository.
    sha256
        Checksum of the upstream file.
    shape
        Expected (n_cells, n_genes).
    """

    name: str
    repository: str
    commit: str
    path: str
    sha256: str
    shape: tuple[int, int]

    @property
    def filename(self) -> str:
        return f"{self.name}.h5ad"

    @property
    def url(self) -> str:
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{self.path}"


def fetch(upstream: Upstream) -> ad.AnnData:
    """Return the data set from the first folder of ``SC_SSL_DATA`` that has it, else download and convert it.

    Returns
    -------
    Raw counts as CSR float32 in ``X``, the annotation in ``obs["cell_type"]`` (categorical).

    Raises
    ------
    FileNotFoundError
        If there is neither a local copy nor a way to download the file.
    ValueError
        If the file that was found is not the data set that was asked for.
    """
    local = find_local(upstream.filename)
    if local is not None:
        adata, origin = ad.read_h5ad(local), str(local)
    else:
        adata, origin = convert(download(upstream), upstream), upstream.url
    _check(adata, upstream, origin)
    adata.X = csr_matrix(adata.X, dtype=np.float32)
    return adata


def find_local(filename: str) -> Path | None:
    """Return the first file of that name in the folders of ``SC_SSL_DATA``, None where there is none."""
    for folder in _folders():
        if (folder / filename).is_file():
            return folder / filename
    return None


def download(upstream: Upstream) -> Path:
    """Return the upstream file's path in pooch's cache; its checksum is verified there on every call."""
    import pooch

    try:
        cached = pooch.retrieve(
            upstream.url,
            known_hash=f"sha256:{upstream.sha256}",
            fname=Path(upstream.path).name,
            path=pooch.os_cache("sc_ssl"),
        )
    except OSError as error:  # requests' errors are OSErrors
        searched = os.pathsep.join(map(str, _folders())) or "not set"
        raise FileNotFoundError(
            f"Data set {upstream.name!r} was not found in {FOLDERS_VARIABLE} ({searched}) and could not be downloaded "
            f"({type(error).__name__}: {error}). Either set the environment variable {FOLDERS_VARIABLE} to a folder "
            f"that has {upstream.filename}, or allow the download of {upstream.url}."
        ) from error
    return Path(cached)


def convert(path: Path, upstream: Upstream) -> ad.AnnData:
    """Convert the upstream HDF5 file: ``X`` (n_cells, n_genes) counts, ``Y`` (n_cells,) labels 1, 2, ….

    The file has no names: cells become ``cell_i``, genes ``gene_i`` (i = row or column in the file, from 0),
    labels ``type_k``.
    """
    with h5py.File(path) as file:
        missing = {"X", "Y"} - set(file)
        if missing:
            raise ValueError(f"{path} should hold the arrays 'X' and 'Y', but {sorted(missing)} is missing.")
        counts = csr_matrix(file["X"][()], dtype=np.float32)
        labels = np.ravel(file["Y"][()]).astype(int)
    n_cells, n_genes = counts.shape
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical([f"type_{label}" for label in labels]),
            "batch": pd.Categorical([upstream.name] * n_cells),
        },
        index=[f"cell_{i}" for i in range(n_cells)],
    )
    var = pd.DataFrame(index=[f"gene_{i}" for i in range(n_genes)])
    source = {"repo": upstream.repository, "commit": upstream.commit, "path": upstream.path}
    return ad.AnnData(counts, obs=obs, var=var, uns={"source": source})


def _folders() -> list[Path]:
    value = os.environ.get(FOLDERS_VARIABLE, "")
    return [Path(folder).expanduser() for folder in value.split(os.pathsep) if folder]


def _check(adata: ad.AnnData, upstream: Upstream, origin: str) -> None:
    remedy = f"Remove or replace that file; the original is {upstream.url}."
    if adata.shape != upstream.shape:
        raise ValueError(
            f"{upstream.name!r} should have {upstream.shape[0]} cells x {upstream.shape[1]} genes, "
            f"but {origin} has {adata.n_obs} x {adata.n_vars}. {remedy}"
        )
    if "cell_type" not in adata.obs:
        raise ValueError(f"{origin} should have obs['cell_type'], but has {list(adata.obs)}. {remedy}")
    values = adata.X.data if hasattr(adata.X, "indptr") else np.asarray(adata.X)
    if values.size and (values.min() < 0 or np.any(values != np.rint(values))):
        raise ValueError(f"{origin} should hold raw counts in X, but has negative or fractional values. {remedy}")
