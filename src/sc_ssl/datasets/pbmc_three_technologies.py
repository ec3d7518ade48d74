"""Blood cells measured in three ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad

from sc_ssl.datasets._local import Converted, local_copy

if TYPE_CHECKING:
    from anndata import AnnData

FILE = Converted(
    filename="pbmc_3tech_symphony.h5ad",
    sha256="3e17edfaafcdd336b264d2551e35a95c49dc03cd989e0172afcc87219fdb0162",
    repository="immunogenomics/symphony",
    path="data/pbmcs_exprs_small.rda, pbmcs_meta_small.rda",
    licence="GPL-3 or later",
)


def pbmc_three_technologies() -> AnnData:
    """Blood cells by three technologies, 1,200 cells x 1,767 genes, 9 types (10x 3' v1, 3' v2 and 5').

    Read from the first folder of the environment variable ``SC_SSL_DATA`` that has ``pbmc_3tech_symphony.h5ad``; its checksum is
    verified. It is not downloaded: upstream it is an object of R.

    Returns
    -------
    ``X``: raw counts, CSR float32. ``obs["cell_type"]``, ``obs["cell_type_broad"]``, ``obs["batch"]``: the technology;
    ``obs["n_umi_all_genes"]``: counts over all genes.

    Raises
    ------
    FileNotFoundError
        If no folder of ``SC_SSL_DATA`` has the file.
    ValueError
        If the file is another one.

    Notes
    -----
    Variable genes only. The types were made from clusters.

    Source: `immunogenomics/symphony <https://github.com/immunogenomics/symphony>`__, GPL-3 or later.

    References
    ----------
    Kang et al. (2021), Efficient and precise single-cell reference atlas mapping with Symphony, Nature Communications
    12, 5890.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc_three_technologies()  # doctest: +SKIP
    """
    return ad.read_h5ad(local_copy(FILE))
