"""Human cell lines and tissues of many kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad

from sc_ssl.datasets._local import Converted, local_copy

if TYPE_CHECKING:
    from anndata import AnnData

FILE = Converted(
    filename="pollen.h5ad",
    sha256="bd4d51033bc85adf94147c90a645c2c65d9f38b6a27be94a7dd3e8da236ed834",
    repository="gongx030/scDatasets",
    path="data/pollen.rda",
    licence="MIT",
)


def pollen() -> AnnData:
    """Human cell lines, stem cells, cortex and blood, 299 cells x 21,471 genes, 11 types (SMARTer).

    Read from the first folder of the environment variable ``SC_SSL_DATA`` that has ``pollen.h5ad``; its checksum is
    verified. It is not downloaded: upstream it is an object of R.

    Returns
    -------
    ``X``: read counts, CSR float32. ``obs["cell_type"]``, ``obs["batch"]``, ``obs["n_reads"]``.

    Raises
    ------
    FileNotFoundError
        If no folder of ``SC_SSL_DATA`` has the file.
    ValueError
        If the file is another one.

    Notes
    -----
    Reads, not molecules.

    Source: `gongx030/scDatasets <https://github.com/gongx030/scDatasets>`__, MIT.

    References
    ----------
    Pollen et al. (2014), Low-coverage single-cell mRNA sequencing reveals cellular heterogeneity and activated signaling
    pathways in developing cerebral cortex, Nature Biotechnology 32, 1053.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pollen()  # doctest: +SKIP
    """
    return ad.read_h5ad(local_copy(FILE))
