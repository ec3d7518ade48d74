"""Blood cells of lupus patients, with and without interferon beta."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad

from sc_ssl.datasets._local import Converted, local_copy

if TYPE_CHECKING:
    from anndata import AnnData

FILE = Converted(
    filename="pbmc_kang_muscat.h5ad",
    sha256="dac1ef121a8251f204eef11b9e150368bbb2aef6609405f831707e3743d29b63",
    repository="HelenaLC/muscat",
    path="data/example_sce.rda",
    licence="GPL-3",
)


def pbmc_interferon() -> AnnData:
    """Blood cells with and without interferon beta, 1,556 cells x 1,267 genes, 5 types (10x 3' v1).

    Read from the first folder of the environment variable ``SC_SSL_DATA`` that has ``pbmc_kang_muscat.h5ad``; its checksum is
    verified. It is not downloaded: upstream it is an object of R.

    Returns
    -------
    ``X``: raw counts, CSR float32. ``obs["cell_type"]``, ``obs["batch"]``, ``obs["condition"]`` (``ctrl`` or ``stim``).

    Raises
    ------
    FileNotFoundError
        If no folder of ``SC_SSL_DATA`` has the file.
    ValueError
        If the file is another one.

    Notes
    -----
    Source: `HelenaLC/muscat <https://github.com/HelenaLC/muscat>`__, GPL-3, a subset of GSE96583.

    References
    ----------
    Kang et al. (2018), Multiplexed droplet single-cell RNA-sequencing using natural genetic variation, Nature Biotechnology 36,
    89. Crowell et al. (2020), muscat detects subpopulation-specific state transitions, Nature Communications 11, 6077.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc_interferon()  # doctest: +SKIP
    """
    return ad.read_h5ad(local_copy(FILE))
