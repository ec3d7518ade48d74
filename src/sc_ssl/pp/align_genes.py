"""Genes in the order of a model."""

from collections.abc import Sequence

import pandas as pd
from anndata import AnnData

from sc_ssl.data import check_cells, find_counts, in_order, match_genes, to_csr


def align_genes(
    adata: AnnData, genes: Sequence[str], *, layer: str | None = None, min_coverage: float = 0.5
) -> AnnData:
    """Bring counts into the order of a list of genes, matched by name; missing genes become empty columns.

    Models do this themselves for the cells they are given. An empty column is not a measured zero: it is marked in
    ``var["measured"]``.

    Parameters
    ----------
    adata
        Cells × genes in memory; not changed.
    genes
        Names of the genes wanted, in order, for example ``model.var_names``.
    layer
        Layer of counts; ``None`` takes ``layers["counts"]`` if there, else ``X``.
    min_coverage
        Smallest share of ``genes`` that must be there, in [0, 1].

    Returns
    -------
    A new AnnData (n_obs, len(genes)): ``X`` CSR float32, ``obs`` copied, ``var["measured"]`` (bool).

    Raises
    ------
    ValueError
        Duplicated names, or fewer genes than ``min_coverage`` asks for.
    """
    check_cells(adata, min_cells=1)
    wanted = pd.Index(genes)
    if not wanted.is_unique:
        raise ValueError(f"the genes wanted must be unique, found {wanted[wanted.duplicated()][0]!r} more than once.")
    column_g = match_genes(adata.var_names, genes, min_coverage=min_coverage)
    matrix = in_order(to_csr(find_counts(adata, layer).matrix), column_g)
    return AnnData(matrix.copy(), obs=adata.obs.copy(), var=pd.DataFrame({"measured": column_g >= 0}, index=wanted))
