"""Five lung cancer lines whose identity is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad

from sc_ssl.datasets._local import Converted, local_copy

if TYPE_CHECKING:
    from anndata import AnnData

FILE = Converted(
    filename="celllines_mixology.h5ad",
    sha256="41bc394289623b21cd4f76a4de95b7e1169cbbc94023e8ab77f7f3ae0255d7e2",
    repository="LuyiTian/sc_mixology",
    path="data/csv/sc_celseq2*, sc_dropseq",
    licence="MIT",
)


def lung_cancer_lines() -> AnnData:
    """Five lung cancer lines, 1,021 cells x 22,328 genes, 5 batches (CEL-seq2, Drop-seq).

    Read from the first folder of the environment variable ``SC_SSL_DATA`` that has ``celllines_mixology.h5ad``; its checksum is
    verified. It is not downloaded: it was joined from several tables.

    Returns
    -------
    ``X``: raw counts, CSR float32. ``obs["cell_type"]``: the line; ``obs["batch"]``, ``obs["protocol"]``.

    Raises
    ------
    FileNotFoundError
        If no folder of ``SC_SSL_DATA`` has the file.
    ValueError
        If the file is another one.

    Notes
    -----
    The lines were told apart by their genotypes, so that the labels are true.

    Source: `LuyiTian/sc_mixology <https://github.com/LuyiTian/sc_mixology>`__, MIT.

    References
    ----------
    Tian et al. (2019), Benchmarking single cell RNA-sequencing analysis pipelines using mixture control experiments,
    Nature Methods 16, 479.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.lung_cancer_lines()  # doctest: +SKIP
    """
    return ad.read_h5ad(local_copy(FILE))
