"""Pancreas of both species, over orthologous genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad

from sc_ssl.datasets._local import Converted, local_copy

if TYPE_CHECKING:
    from anndata import AnnData

FILE = Converted(
    filename="pancreas_baron_hs_mm_cider.h5ad",
    sha256="2302e977ae18abffd1efc15d864f4ac10785cba62a4eb9e090c800825c57fc54",
    repository="zhiyhu/CIDER",
    path="data/pancreas.RData",
    licence="MIT",
)


def pancreas_human_mouse() -> AnnData:
    """Pancreas of human and mouse, 350 cells x 11,887 orthologous genes (inDrop).

    Read from the first folder of the environment variable ``SC_SSL_DATA`` that has ``pancreas_baron_hs_mm_cider.h5ad``; its checksum is
    verified. It is not downloaded: upstream it is an object of R.

    Returns
    -------
    ``X``: raw counts, CSR float32. ``obs["cell_type"]``, ``obs["batch"]``, ``obs["organism"]``: ``human`` or ``mouse``.

    Raises
    ------
    FileNotFoundError
        If no folder of ``SC_SSL_DATA`` has the file.
    ValueError
        If the file is another one.

    Notes
    -----
    Genes have human symbols. The mouse cells are some of those of :func:`pancreas_mouse`.

    Source: `zhiyhu/CIDER <https://github.com/zhiyhu/CIDER>`__, MIT.

    References
    ----------
    Baron et al. (2016), Cell Systems 3, 346.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pancreas_human_mouse()  # doctest: +SKIP
    """
    return ad.read_h5ad(local_copy(FILE))
