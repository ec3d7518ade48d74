"""Blood cells with surface proteins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad

from sc_ssl.datasets._local import Converted, local_copy

if TYPE_CHECKING:
    from anndata import AnnData

FILE = Converted(
    filename="pbmc_cite_5k10k_subset.h5ad",
    sha256="252f469e5d3e9d7360d7e531e9b7ceefa899790dd925007d983d7173e019da9d",
    repository="scverse/scvi-tools",
    path="tests/test_data/pbmc_10k_protein_v3.h5ad, pbmc_5k_protein_v3.h5ad",
    licence="BSD-3-Clause",
)


def pbmc_cite() -> AnnData:
    """Blood cells with RNA and surface proteins, 400 cells x 14,520 genes, 2 batches (10x 3' v3, TotalSeq-B).

    Read from the first folder of the environment variable ``SC_SSL_DATA`` that has ``pbmc_cite_5k10k_subset.h5ad``; its checksum is
    verified. It is not downloaded: it was joined from two files.

    Returns
    -------
    ``X``: raw counts, CSR float32. ``obs["batch"]``; ``obsm["protein_counts"]``: counts of proteins, by name.

    Raises
    ------
    FileNotFoundError
        If no folder of ``SC_SSL_DATA`` has the file.
    ValueError
        If the file is another one.

    Notes
    -----
    No cell types.

    Source: `scverse/scvi-tools <https://github.com/scverse/scvi-tools>`__, BSD-3-Clause.

    References
    ----------
    Gayoso et al. (2021), Joint probabilistic modeling of single-cell multi-omic data with totalVI, Nature Methods 18, 272.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc_cite()  # doctest: +SKIP
    """
    return ad.read_h5ad(local_copy(FILE))
