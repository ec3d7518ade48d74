"""Neurons of a nematode, a data set of the clustering papers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sc_ssl.datasets._fetch import Upstream, fetch

if TYPE_CHECKING:
    from anndata import AnnData

UPSTREAM = Upstream(
    name="worm_neuron",
    repository="ttgump/scDCC",
    commit="142e4e0370f4134751e92a160f95f97fce8db369",
    path="data/Small_Datasets/worm_neuron_cell.h5",
    sha256="4f2a3c4b8492bcd11d957a8a74098ba258c271d714718c175854a7c44b1e31e6",
    shape=(4186, 13488),
)


def worm_neuron() -> AnnData:
    """Neurons of the nematode *C. elegans*, 4,186 cells x 13,488 genes, 10 types (sci-RNA-seq, larval stage L2).

    The clustering benchmark "worm neuron cells" of scDeepCluster, contrastive-sc and mask-sc, with all genes, as
    released with scDCC. It is read from the first folder of the environment variable ``SC_SSL_DATA`` that has
    ``worm_neuron.h5ad``; without one, the released file is downloaded once (2.7 MB) and its checksum verified.

    Returns
    -------
    ``X``: raw counts, CSR float32. ``obs["cell_type"]``: ``type_1`` … ``type_10``. ``obs["batch"]``: one value.

    Raises
    ------
    FileNotFoundError
        If no folder of ``SC_SSL_DATA`` has the file and it cannot be downloaded.

    Notes
    -----
    Very sparse: a median of 246 counts per cell, 98.6 % zeros. Genes and types have no names in the source:
    ``gene_i`` is column i.

    Source: `ttgump/scDCC <https://github.com/ttgump/scDCC>`__, Apache-2.0.

    References
    ----------
    Cao et al. (2017), Comprehensive single-cell transcriptional profiling of a multicellular organism,
    Science 357, 661.

    Tian et al. (2019), Clustering single-cell RNA-seq data with a model-based deep learning approach,
    Nature Machine Intelligence 1, 191.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.worm_neuron()  # doctest: +SKIP
    """
    return fetch(UPSTREAM)
