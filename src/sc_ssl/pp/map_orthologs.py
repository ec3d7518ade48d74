"""Genes of one species under the names of another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from pandas.api.types import is_numeric_dtype

from sc_ssl._logging import logger
from sc_ssl.data import GeneVocabulary, check_cells, find_layer, layer_matrix, without_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: share of the data's genes that must be found in the table
MIN_FOUND = 0.1


def map_orthologs(
    adata: AnnData,
    orthologs: pd.DataFrame | str | Path,
    *,
    source: str | None = None,
    target: str | Sequence[str] | pd.Index | None = None,
    aliases: Mapping[str, str] | None = None,
    unmapped: Literal["drop", "keep"] = "drop",
    layer: str | None = None,
) -> AnnData:
    """Name genes by their one-to-one orthologs in another species: mouse ``H1f0`` becomes human ``H1-0``.

    Names are compared exactly as they are written and never after folding case: symbols that differ in case only are
    often, but not always, orthologs, and many orthologs differ in more than case.

    Parameters
    ----------
    adata
        Cells × genes in memory; not changed.
    orthologs
        A table, or a CSV file with a header, with a column per species and kind of name, for example
        ``human_symbol``, ``mouse_symbol``, ``human_ensembl``, ``mouse_ensembl``. A row is a pair; names in more than
        one pair are not one-to-one and are left out. Versions of Ensembl ids (``.12``) are ignored.
    source
        Column with the names that the data have; by default the column in which most of them are.
    target
        Column with the names wanted, or genes that are named so, such as ``model.var_names``; by default the only other
        column, or the only other one of the same kind (symbol, Ensembl).
    aliases
        Other names of genes → the names in the table, for what is not found as it is.
    unmapped
        ``"drop"`` leaves out genes without an ortholog, ``"keep"`` keeps them under their own name.
    layer
        Layer of counts; ``None`` takes ``layers["counts"]`` if there, else ``X``.

    Returns
    -------
    A new AnnData: ``X`` CSR float32, genes of one target summed; ``obs`` copied; ``var["original_name"]``.

    Raises
    ------
    KeyError
        A column that the table does not have, or a layer that is not there.
    ValueError
        Under a tenth of the genes are in the table; a table of several species without ``target``.

    Examples
    --------
    >>> import pandas as pd
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()[:, ["LYZ", "CD3D"]].copy()
    >>> orthologs = pd.DataFrame({"human_symbol": ["LYZ", "CD3D"], "mouse_symbol": ["Lyz2", "Cd3d"]})
    >>> sc_ssl.pp.map_orthologs(adata, orthologs).var_names.tolist()
    ['Lyz2', 'Cd3d']
    """
    if unmapped not in ("drop", "keep"):
        raise ValueError(f"unmapped is 'drop' or 'keep', found {unmapped!r}.")
    var_names = check_cells(adata, min_cells=0, unique_genes=False)
    table = orthologs if isinstance(orthologs, pd.DataFrame) else pd.read_csv(orthologs)
    mapped = _mapped_names(var_names, table, source, target, aliases)
    if unmapped == "keep":
        names = without_version(var_names)
        mapped = mapped.fillna(pd.Series(names, index=mapped.index, dtype=object))
    kept = mapped.notna().to_numpy()
    wanted = pd.Index(mapped[kept].drop_duplicates())
    counts, _ = layer_matrix(adata, find_layer(adata, layer))
    matrix, _ = GeneVocabulary(tuple(wanted)).align(counts, mapped.where(kept, "").to_numpy())
    original = pd.Series(var_names[kept], index=mapped[kept].to_numpy()).groupby(level=0, sort=False)
    var = pd.DataFrame({"original_name": original.agg(",".join).reindex(wanted).to_numpy()}, index=wanted.astype(str))
    return AnnData(matrix, obs=adata.obs.copy(), var=var)


def _mapped_names(
    var_names: pd.Index,
    table: pd.DataFrame,
    source: str | None,
    target: str | Sequence[str] | pd.Index | None,
    aliases: Mapping[str, str] | None,
) -> pd.Series:
    """The name of each gene's ortholog, missing where there is none; an error where hardly any has one."""
    for column in (source, target):
        if isinstance(column, str) and column not in table:
            raise KeyError(f"{column!r} is no column of the orthologs, which have {', '.join(map(str, table))}.")
    names = without_version(var_names)
    source = source or _columns(table, names)[0]
    if target is None:
        target = _partner(table, source)
    elif not isinstance(target, str):
        target = _named_as(table.drop(columns=source), target)
    if source == target:
        raise ValueError(f"the genes are named as in column {target!r} of the orthologs already, such as {names[0]!r}.")
    to_target = _one_to_one(table[[source, target]])
    mapped = pd.Series(names.map(to_target), index=var_names, dtype=object)
    if aliases is not None:
        mapped = mapped.fillna(pd.Series(names.map(aliases).map(to_target), index=mapped.index, dtype=object))
    found = mapped.notna().to_numpy()
    if found.mean() < MIN_FOUND:
        raise ValueError(
            f"{found.sum()} of {len(names)} genes are in column {source!r} of the orthologs, at least {MIN_FOUND:.0%} are "
            f"needed; the data have names such as {names[0]!r}, the table {table[source].dropna().iloc[0]!r}."
        )
    logger.info("%d of %d genes have a one-to-one ortholog in %r.", found.sum(), len(names), target)
    return mapped


def _columns(table: pd.DataFrame, names: pd.Index | None = None) -> list[str]:
    """The columns of names, those that hold most of the names first; numbers and what is empty are not names."""
    columns = [column for column in table if not is_numeric_dtype(table[column]) and table[column].notna().any()]
    if len(columns) < 2:
        raise ValueError(
            f"the table of orthologs needs a column of names for each of two species, found {', '.join(map(str, table))}."
        )
    return columns if names is None else sorted(columns, key=lambda column: -_n_held(table[column], names))


def _n_held(column: pd.Series, names: pd.Index) -> int:
    return int(names.isin(without_version(column.dropna().astype(str))).sum())


def _named_as(table: pd.DataFrame, genes: Sequence[str] | pd.Index) -> str:
    """The column with the names that these genes have."""
    names = without_version(pd.Index(genes).astype(str))
    column = max(table, key=lambda name: _n_held(table[name], names))
    if not _n_held(table[column], names):
        raise ValueError(
            f"no column of the orthologs has the names wanted, such as {', '.join(map(repr, names[:2])) or 'none'}; the "
            f"others are {', '.join(map(repr, table))}."
        )
    return column


def _partner(table: pd.DataFrame, source: str) -> str:
    others = [column for column in _columns(table) if column != source]
    kind = str(source).rpartition("_")[2]
    candidates = [column for column in others if str(column).rpartition("_")[2] == kind] or others
    if len(candidates) > 1:
        raise ValueError(
            f"the genes are named as in column {source!r} of the orthologs; name with target= which of "
            f"{', '.join(map(repr, candidates))} they should have."
        )
    return candidates[0]


def _one_to_one(pairs: pd.DataFrame) -> dict[str, str]:
    """Names → names of the pairs in which neither is in another pair."""
    pairs = pairs.dropna().astype(str).drop_duplicates()
    pairs = pairs.apply(lambda column: np.asarray(without_version(column)))
    alone = ~(pairs.iloc[:, 0].duplicated(keep=False) | pairs.iloc[:, 1].duplicated(keep=False))
    return dict(pairs[alone].itertuples(index=False))
