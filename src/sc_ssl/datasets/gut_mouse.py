"""Stomach and intestine of mice, from the Mouse Cell Atlas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad

from sc_ssl.datasets._local import Converted, local_copy

if TYPE_CHECKING:
    from anndata import AnnData

FILE = Converted(
    filename="gut_mca_mouse.h5ad",
    sha256="8be71d7c003f7b823c783779ba0dd2776bd2e0c630fbe870149cc4032eb186d0",
    repository="Papatheodorou-Group/scGOclust",
    path="data/mmu_subset.rda",
    licence="GPL-3 or later",
)


def gut_mouse() -> AnnData:
    """Stomach and small intestine of mice, 219 cells x 12,044 genes, 22 types (Microwell-seq).

    Read from the first folder of the environment variable ``SC_SSL_DATA`` that has ``gut_mca_mouse.h5ad``; its checksum is
    verified. It is not downloaded: upstream it is an object of R.

    Returns
    -------
    ``X``: raw counts, CSR float32. ``obs["cell_type"]``, ``obs["cell_type_fine"]``, ``obs["batch"]``.

    Raises
    ------
    FileNotFoundError
        If no folder of ``SC_SSL_DATA`` has the file.
    ValueError
        If the file is another one.

    Notes
    -----
    Ten cells a type on average: too few to score each of them.

    Source: `Papatheodorou-Group/scGOclust <https://github.com/Papatheodorou-Group/scGOclust>`__, GPL-3 or later.

    References
    ----------
    Han et al. (2018), Mapping the mouse cell atlas by Microwell-seq, Cell 172, 1091.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.gut_mouse()  # doctest: +SKIP
    """
    return ad.read_h5ad(local_copy(FILE))
