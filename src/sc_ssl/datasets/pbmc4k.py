"""Blood cells of one donor, the data set "10X PBMC" of the clustering papers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sc_ssl.datasets._fetch import Upstream, fetch

if TYPE_CHECKING:
    from anndata import AnnData

UPSTREAM = Upstream(
    name="pbmc4k_top2000",
    repository="ttgump/scDCC",
    commit="142e4e0370f4134751e92a160f95f97fce8db369",
    path="data/Small_Datasets/10X_PBMC_top2000.h5",
    sha256="ec78ead405dfa988d6156c12068b49c0782ca58f5ed52c938d8ba8e8377eb16e",
    shape=(4271, 2000),
)


def pbmc4k() -> AnnData:
    """Peripheral blood cells of one healthy donor, 4,271 cells x 2,000 genes, 8 types (10x 3' v2).

    The clustering benchmark "10X PBMC" of scDeepCluster, contrastive-sc and mask-sc, as released
    with scDCC. It is read from the first folder of the environment variable ``SC_SSL_DATA`` that has
    ``pbmc4k_top2000.h5ad``; without one, the released file is downloaded once (1.5 MB) and its checksum verified.

    Returns
    -------
    ``X``: raw counts, CSR float32. ``obs["cell_type"]``: ``type_1`` … ``type_8``. ``obs["batch"]``: one value.

    Raises
    ------
    FileNotFoundError
        If no folder of ``SC_SSL_DATA`` has the file and it cannot be downloaded.

    Notes
    -----
    Only the 2,000 most variable genes were released, so the library size is that of those genes. Genes and types
    have no names in the source: ``gene_i`` is column i. The labels come from a clustering of the same counts, not
    from sorted cells, so they may favour methods that resemble it.

    Source: `ttgump/scDCC <https://github.com/ttgump/scDCC>`__, Apache-2.0; the counts are public 10x Genomics data.

    References
    ----------
    Zheng et al. (2017), Massively parallel digital transcriptional profiling of single cells,
    Nature Communications 8, 14049.

    Tian et al. (2019), Clustering single-cell RNA-seq data with a model-based deep learning approach,
    Nature Machine Intelligence 1, 191.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc4k()  # doctest: +SKIP
    """
    return fetch(UPSTREAM)
