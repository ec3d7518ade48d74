"""Genes in the order of a model."""

from collections.abc import Sequence

import pandas as pd
from anndata import AnnData

from sc_ssl._logging import logger
from sc_ssl.data import GeneVocabulary, check_cells, check_coverage, find_layer, gene_names, layer_matrix


def align_genes(
    adata: AnnData, genes: Sequence[str] | GeneVocabulary, *, layer: str | None = None, min_coverage: float = 0.5
) -> AnnData:
    """Bring counts into the order of a list of genes, matched by name; missing genes become empty columns.

    Models do this themselves for the cells they are given. An empty column is not a measured zero: it is marked in
    ``var["measured"]``. Columns of one name, as several transcripts of a gene, are summed.

    Parameters
    ----------
    adata
        Cells × genes in memory; not changed.
    genes
        Names of the genes wanted, in order, for example ``model.var_names``; or a vocabulary.
    layer
        Layer of counts; ``None`` takes ``layers["counts"]`` if there, else ``X``.
    min_coverage
        Smallest share of ``genes`` that must be there, in [0, 1].

    Returns
    -------
    A new AnnData (n_obs, len(genes)): ``X`` CSR float32, ``obs`` copied, ``var["measured"]`` (bool).

    Raises
    ------
    TypeError
        ``adata`` is no AnnData.
    KeyError
        The layer is not there.
    ValueError
        Genes wanted twice, or fewer genes there than ``min_coverage``.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> aligned = sc_ssl.pp.align_genes(adata, ["LYZ", "CD3D", "no_such_gene"])
    >>> aligned.var["measured"].tolist()
    [True, True, False]
    """
    names = check_cells(adata, min_cells=0, unique_genes=False)
    vocabulary = (
        genes
        if isinstance(genes, GeneVocabulary)
        else GeneVocabulary(tuple(gene_names(pd.Index(list(genes)), "genes")))
    )
    check_coverage(names.unique(), vocabulary.genes, min_coverage)
    counts, _ = layer_matrix(adata, find_layer(adata, layer))
    matrix, measured_g = vocabulary.align(counts, names)
    if not measured_g.all():
        missing = [gene for gene, there in zip(vocabulary.genes, measured_g, strict=True) if not there]
        logger.warning(
            "%d of %d genes are missing, %r for example: their columns are empty, and var['measured'] is False there.",
            len(missing),
            len(measured_g),
            missing[0],
        )
    return AnnData(
        matrix.copy(), obs=adata.obs.copy(), var=pd.DataFrame({"measured": measured_g}, index=list(vocabulary.genes))
    )
