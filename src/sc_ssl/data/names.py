"""Names of genes: text at the door or refused, and found among others whatever the version of an Ensembl id."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sc_ssl._logging import logger
from sc_ssl._names import as_names

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSIONED = r"^(ENS[A-Z]*G\d{11})\.\d+$"


def gene_names(names: pd.Index, where: str = "adata.var_names") -> pd.Index:
    """Names of genes as text; whole numbers, as Entrez ids are, become text.

    Raises
    ------
    ValueError
        A gene without a name; names that are neither text nor whole numbers.
    """
    names = pd.Index(names)
    if names.inferred_type == "string" and "" not in names:
        return names
    texts = as_names(pd.Series(np.asarray(names, dtype=object)))
    missing = (texts.isna() | (texts == "")).to_numpy()
    if missing.any():
        raise ValueError(
            f"{where} must have a name for every gene, found {missing.sum()} missing or empty, the first in column "
            f"{missing.argmax()}; leave such columns out: adata[:, adata.var_names.notna() & (adata.var_names != '')]."
        )
    odd = [
        name
        for name, text in zip(names, texts, strict=True)
        if not isinstance(name, str | bytes) and not text.isdigit()
    ]
    if odd:
        raise ValueError(
            f"{where} must hold names of genes, text, found {odd[0]!r} ({type(odd[0]).__name__}); put the column of var "
            "with the names there: adata.var_names = adata.var['…'].astype(str)."
        )
    return pd.Index(texts.to_numpy(), dtype=object)


def without_version(names: pd.Index | pd.Series) -> pd.Index:
    """Names of genes, Ensembl ids without their version: ``ENSG00000141510.18`` is ``ENSG00000141510``."""
    return pd.Index(names).str.replace(VERSIONED, r"\1", regex=True)


def locate_genes(names: pd.Index, genes: Sequence[str] | pd.Index, *, log: bool = False) -> np.ndarray:
    """The position of each gene among ``names``, all different, −1 where it is not there.

    An Ensembl id that is not there under its version is found under another, or without one, unless several names
    differ in their version alone.

    Parameters
    ----------
    log
        Log how many were found so.
    """
    names, genes = pd.Index(names, dtype=object), pd.Index(genes, dtype=object)
    position_g = names.get_indexer(genes)
    missing = np.flatnonzero(position_g < 0)
    if not len(missing) or not len(names):
        return position_g
    plain, wanted = without_version(names), without_version(genes[missing])
    alone = np.flatnonzero(~plain.duplicated(keep=False))
    at = plain[alone].get_indexer(wanted)
    found = at >= 0
    position_g[missing[found]] = alone[at[found]]
    if log and found.any():
        logger.info(
            "Ensembl ids are compared without their version: %d genes, for example %r and %r.",
            found.sum(),
            genes[missing[found][0]],
            names[alone[at[found][0]]],
        )
    return position_g
