"""Gene programmes: where they come from, and which of a model's genes each holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sc_ssl._logging import logger
from sc_ssl._names import as_names, as_text

from .names import locate_genes

if TYPE_CHECKING:
    from anndata import AnnData

#: programmes with fewer measured genes are left out
MIN_GENES = 5


def read_programs(source: str | Path | pd.DataFrame) -> dict[str, list[str]]:
    """Programmes of a GMT file, or of a table with the columns ``source`` and ``target`` as decoupler has them."""
    if isinstance(source, pd.DataFrame):
        missing = [name for name in ("source", "target") if name not in source]
        if missing:
            raise KeyError(
                f"a table of programmes has the columns 'source' (the programme) and 'target' (a gene), found "
                f"{', '.join(map(str, source.columns))}; rename them."
            )
        pairs = source[["source", "target"]]
        if pairs.isna().to_numpy().any():
            row = pairs.isna().any(axis=1).to_numpy().argmax()
            raise ValueError(
                f"a table of programmes names a programme and a gene in each row; row {pairs.index[row]!r} lacks one. "
                "Leave such rows out: table.dropna(subset=['source', 'target'])."
            )
        pairs = pairs.apply(as_names).drop_duplicates()
        return {str(name): list(genes) for name, genes in pairs.groupby("source", sort=False)["target"]}
    path = Path(source).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file; give the path of a GMT file.")
    programs: dict[str, list[str]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        name, *rest = (field.strip() for field in line.split("\t"))
        genes = list(dict.fromkeys(gene for gene in rest[1:] if gene))
        if not name or not genes:
            raise ValueError(
                f"{path}, line {number}: a GMT file has a name, a description and at least one gene on each line, "
                f"separated by tabs; found {line[:60]!r}."
            )
        if name in programs:
            raise ValueError(f"{path}, line {number}: programme {name!r} is there twice; rename or remove one.")
        programs[name] = genes
    if not programs:
        raise ValueError(f"{path} holds no programme; a GMT file has one on each line.")
    return programs


def find_programs(programs: Any, adata: AnnData | None) -> dict[str, list[str]]:
    """Programmes as ``{name: genes}``, whatever they were given as.

    A dictionary; a decoupler table; a key of ``adata.varm`` (a DataFrame or array, genes × programmes, where what is
    not 0 belongs) or of ``adata.uns`` (a dictionary or a decoupler table); or the path of a GMT file.
    """
    if isinstance(programs, str) and adata is not None:
        if programs in adata.varm:
            return _of_matrix(adata.varm[programs], adata.var_names, programs)
        if programs in adata.uns:
            programs = adata.uns[programs]
    if isinstance(programs, Mapping):
        for name, genes in programs.items():
            if isinstance(genes, str) or not isinstance(genes, Iterable):
                raise TypeError(f"programme {str(name)!r} should be a list of genes, found {genes!r}.")
        found = {as_text(name): [as_text(gene) for gene in genes] for name, genes in programs.items()}
        if not found:
            raise ValueError("programs holds no programme, found an empty dictionary.")
        return found
    if isinstance(programs, str | Path) and not Path(programs).expanduser().is_file():
        keys = "" if adata is None else f", and adata.varm has {_names(adata.varm)}, adata.uns {_names(adata.uns)}"
        raise KeyError(f"programs={str(programs)!r} is no GMT file{keys}.")
    if isinstance(programs, str | Path | pd.DataFrame):
        return read_programs(programs)
    raise TypeError(
        "programs is a GMT file's path, a dictionary {name: genes}, a table with source and target, or a key of varm "
        f"or uns; found {type(programs).__name__}."
    )


def program_members(
    programs: Mapping[str, Sequence[str]], genes: Sequence[str], *, min_genes: int = MIN_GENES
) -> tuple[list[str], np.ndarray]:
    """Names of the programmes that have at least ``min_genes`` of these genes, and who belongs, (p, g) bool."""
    index = pd.Index(genes)
    names, rows = [], []
    for name, members in programs.items():
        position = locate_genes(index, pd.Index(members).unique())
        position = np.unique(position[position >= 0])
        if len(position) == len(genes):
            raise ValueError(f"programme {name!r} holds all {len(genes)} genes: a mask by it hides all or nothing.")
        if len(position) >= min_genes:
            names.append(name)
            rows.append(position)
    if not names:
        example = next(iter(programs))
        raise ValueError(
            f"none of the {len(programs)} programmes has {min_genes} measured genes; {example!r} for example has "
            f"{', '.join(map(repr, list(programs[example])[:3]))}, while the data have names such as {genes[0]!r}. Use "
            "the same kind of gene names (symbols or Ensembl ids) and species, and more genes (n_top_genes=None)."
        )
    left_out = [name for name in programs if name not in set(names)]
    if left_out:
        logger.info(
            "%d of %d programmes have under %d measured genes and are left out: %s",
            len(left_out),
            len(programs),
            min_genes,
            ", ".join(left_out[:5]) + (", …" if len(left_out) > 5 else ""),
        )
    member_pg = np.zeros((len(names), len(genes)), dtype=bool)
    for p, position in enumerate(rows):
        member_pg[p, position] = True
    return names, member_pg


def regulon_members(
    regulons: Mapping[str, Sequence[str]], genes: Sequence[str], *, leave_out: bool = False
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """As :func:`program_members`, and the position of each regulon's factor among the genes, (p,).

    The factor is the regulon's name where that is a gene, else the first part of it (between underscores) that is, as in
    ``GGGCGGR_SP1_Q6`` of MSigDB's C3. Regulons whose factor is not measured are an error, or left out.
    """
    index = pd.Index(genes)
    factors = {name: _factor(name, index) for name in regulons}
    with_factor = {name: members for name, members in regulons.items() if factors[name] is not None}
    without = [name for name in regulons if factors[name] is None]
    if not with_factor:
        raise ValueError(
            f"none of the {len(regulons)} regulons has its transcription factor among the {len(genes)} genes, for "
            f"example {', '.join(map(repr, without[:3]))}; a regulon is named by its factor, which must be measured and "
            "among the genes that the model is trained on (n_top_genes=None takes all)."
        )
    if without and not leave_out:
        raise ValueError(
            f"{len(without)} of {len(regulons)} regulons have no transcription factor among the {len(genes)} genes: "
            f"{', '.join(map(repr, without[:5]))}{', …' if len(without) > 5 else ''}. leave_out_regulons=True trains on the "
            "others; n_top_genes=None takes all genes."
        )
    if without:
        logger.info("%d of %d regulons have no factor among the genes and are left out.", len(without), len(regulons))
    # a factor that is its own target is not shown, so it does not count
    targets = {name: [gene for gene in members if gene != factors[name]] for name, members in with_factor.items()}
    names, member_pg = program_members(targets, genes)
    return names, member_pg, index.get_indexer([factors[name] for name in names])


def _factor(name: str, genes: pd.Index) -> str | None:
    return next((part for part in (name, *name.split("_")) if part in genes), None)


def _of_matrix(matrix: Any, genes: pd.Index, key: str) -> dict[str, list[str]]:
    names = matrix.columns if isinstance(matrix, pd.DataFrame) else [f"{key}_{p}" for p in range(matrix.shape[1])]
    values = matrix.to_numpy() if isinstance(matrix, pd.DataFrame) else matrix
    values = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
    missing = np.argwhere(pd.isna(values))
    if len(missing):
        g, p = missing[0]
        raise ValueError(
            f"varm[{key!r}] is 0 for genes outside a programme and not 0 for its members; found NaN for gene {genes[g]!r} in programme "
            f"{str(names[p])!r}. Put 0 there."
        )
    return {str(name): genes[values[:, p] != 0].tolist() for p, name in enumerate(names)}


def _names(mapping: Mapping[str, Any]) -> str:
    return ", ".join(repr(key) for key in mapping if not key.startswith("_scvi")) or "no keys"
