"""Pancreas of two mice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad

from sc_ssl.datasets._local import Converted, local_copy

if TYPE_CHECKING:
    from anndata import AnnData

FILE = Converted(
    filename="pancreas_baron_mouse.h5ad",
    sha256="936eca6da8333dfb97c8cb9ab85c93b91093dca2b33354819d9dcd26344b9288",
    repository="LiShenghao813/AttentionAE-sc",
    path="Data/Baron/Baron mouse1.zip, Baron mouse2.zip",
    licence="no licence stated",
)


def pancreas_mouse() -> AnnData:
    """Pancreas of two mice, 1,886 cells x 14,861 genes, 13 types (inDrop).

    Read from the first folder of the environment variable ``SC_SSL_DATA`` that has ``pancreas_baron_mouse.h5ad``; its checksum is
    verified. It is not downloaded: the repository that carries it states no licence.

    Returns
    -------
    ``X``: raw counts, CSR float32. ``obs["cell_type"]``; ``obs["batch"]``: the mouse.

    Raises
    ------
    FileNotFoundError
        If no folder of ``SC_SSL_DATA`` has the file.
    ValueError
        If the file is another one.

    Notes
    -----
    The authors' annotation. The counts are public (GEO GSE84133).

    Source: `LiShenghao813/AttentionAE-sc <https://github.com/LiShenghao813/AttentionAE-sc>`__, no licence stated.

    References
    ----------
    Baron et al. (2016), A single-cell transcriptomic map of the human and mouse pancreas reveals inter- and
    intra-cell population structure, Cell Systems 3, 346.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pancreas_mouse()  # doctest: +SKIP
    """
    return ad.read_h5ad(local_copy(FILE))
