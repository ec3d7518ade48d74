"""Several data sets as one: genes matched by name and across species, with what each measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from sc_ssl._keys import DATASET, LIBRARY_SIZE, MEASURED, SPECIES
from sc_ssl._logging import logger
from sc_ssl._names import as_text
from sc_ssl.data import (
    MIN_CELLS,
    Counts,
    GeneVocabulary,
    LightAnnData,
    describe_names,
    read_counts,
    variable_genes,
    without_version,
)

from .map_orthologs import map_orthologs

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")
A = TypeVar("A", bound=AnnData)


def join_studies(
    adatas: Mapping[str, AnnData],
    *,
    species: Mapping[str, str] | None = None,
    orthologs: pd.DataFrame | str | Path | None = None,
    across: Literal["union", "intersection"] = "union",
    min_datasets: int = 1,
    n_top_genes: int | None = None,
    layer: str | None = None,
) -> AnnData:
    """Join data sets of one or more species into one AnnData over common genes.

    Genes are matched by name, those of the rarer species through one-to-one orthologs. A gene that a data set did not
    measure is an empty column there and marked, which models read as missing and not as 0.

    Parameters
    ----------
    adatas
        Data set → cells × genes with raw counts, at least 10 cells each; not changed. Columns of one gene name are
        summed.
    species
        Data set → its species, ``"human"`` or ``"mouse"``, where the names of the genes do not show it.
    orthologs
        A table of one-to-one orthologs, or its CSV file, as of :func:`sc_ssl.pp.map_orthologs`; needed for several
        species. The genes take the names of the species with the most cells.
    across
        ``"union"`` keeps genes that some data set measured, ``"intersection"`` those that some data set of every species
        did. Within a species it is always the union.
    min_datasets
        Data sets that must have measured a gene, at least 1.
    n_top_genes
        Genes that vary most within some data set, at least 2; ``None`` takes all.
    layer
        Layer of raw counts; ``None`` takes ``layers["counts"]`` if there, else ``X``.

    Returns
    -------
    A new AnnData (n cells of all data sets, g genes in alphabetical order), cells named ``<data set>:<name>``, with
    these fields:

    ``X`` : CSR float32
        The counts.
    ``obs['dataset']`` : categorical of str
        The data set, in the order of ``adatas``.
    ``obs['sc_ssl_library_size']`` : float64
        Counts per cell over all genes that its data set measured, also those that are left out here.
    ``varm['measured']`` : DataFrame of bool (g, number of data sets)
        Which data set measured a gene.
    ``uns['species']`` : str
        The species whose names the genes have, where it is known.

    Raises
    ------
    TypeError
        No mapping, or a data set that is no AnnData.
    KeyError
        A layer that is not there.
    ValueError
        Not raw counts; under 10 cells; names of genes of several kinds; several species without ``orthologs``; a data
        set that shares no gene with the others.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> studies = {"first": adata[:350, :700].copy(), "second": adata[350:, 100:].copy()}
    >>> cells = sc_ssl.pp.join_studies(studies, n_top_genes=500)
    >>> cells.shape
    (700, 500)
    >>> cells.obs["dataset"].cat.categories.tolist()
    ['first', 'second']
    """
    if not isinstance(adatas, Mapping):
        raise TypeError(f"data sets are given by name, {{name: AnnData, …}}, found a {type(adatas).__name__}.")
    names = pd.Index(map(as_text, adatas))
    if not names.is_unique:
        raise ValueError(f"every data set needs a name of its own, found {names[names.duplicated()][0]!r} twice.")
    options = {"min_cells": MIN_CELLS, "unique_genes": False, "takes": ()}
    counts = {
        as_text(name): _of_data_set(as_text(name), read_counts, cells, layer, **options)
        for name, cells in adatas.items()
    }
    joined, measured, common = _join(counts, species, orthologs, across, min_datasets, n_top_genes)
    cells = AnnData(joined.matrix, obs=joined.obs, var=pd.DataFrame(index=joined.var_names))
    return _with_fields(cells, measured, common)


def join_counts(
    counts: Mapping[str, Counts],
    *,
    orthologs: pd.DataFrame | str | Path | None = None,
    min_datasets: int = 1,
    n_top_genes: int | None = None,
) -> LightAnnData:
    """The same of counts that were read, all of one kind; the cells are not checked again."""
    joined, measured, common = _join(counts, None, orthologs, "union", min_datasets, n_top_genes)
    return _with_fields(LightAnnData(joined), measured, common)


def _with_fields(cells: A, measured: Mapping[str, np.ndarray], common: str | None) -> A:
    if common is not None:
        cells.uns[SPECIES] = common
    cells.varm[MEASURED] = pd.DataFrame(measured, index=cells.var_names)
    return cells


def _join(
    counts: Mapping[str, Counts],
    species: Mapping[str, str] | None,
    orthologs: pd.DataFrame | str | Path | None,
    across: Literal["union", "intersection"],
    min_datasets: int,
    n_top_genes: int | None,
) -> tuple[Counts, dict[str, np.ndarray], str | None]:
    """All cells over the common genes, which genes each data set measured, and the species whose names they have."""
    if not counts:
        raise ValueError("at least one data set is needed, found none.")
    if n_top_genes is not None and n_top_genes < 2:
        raise ValueError(f"n_top_genes is at least 2, found {n_top_genes}.")
    counts = {name: _summed(cells) for name, cells in _versions_matched(counts).items()}
    species_of, common = one_nomenclature(counts, species, orthologs)
    vocabulary = GeneVocabulary.of(
        {name: cells.var_names for name, cells in counts.items()},
        species=species_of,
        across=across,
        min_datasets=min_datasets,
    )
    if n_top_genes is not None:
        vocabulary = _most_variable(counts, vocabulary, n_top_genes)
    matrices, measured = [], {}
    for name, cells in counts.items():
        matrix, measured[name] = vocabulary.align(cells.matrix, cells.var_names)
        matrices.append(matrix)
        logger.info("%s: %d cells, %d of %d genes.", name, cells.n_obs, measured[name].sum(), len(vocabulary))
    library_size = np.concatenate([cells.library_size for cells in counts.values()])
    dataset = np.repeat(list(counts), [cells.n_obs for cells in counts.values()])
    obs = pd.DataFrame(
        {DATASET: pd.Categorical(dataset, categories=list(counts)), LIBRARY_SIZE: library_size},
        index=np.concatenate([f"{name}:" + cells.obs_names for name, cells in counts.items()]),
    )
    genes = pd.Index(vocabulary.genes)
    kind = next(iter(counts.values())).kind
    return Counts(sparse.vstack(matrices, format="csr"), "X", kind, library_size, obs, genes), measured, common


def one_nomenclature(
    counts: dict[str, Counts], species: Mapping[str, str] | None, orthologs: pd.DataFrame | str | Path | None
) -> tuple[dict[str, str | None], str | None]:
    """Rename the genes of rarer species, in place, to those of the most common one.

    Returns the species of each data set, and the one whose names all have now.
    """
    given = {as_text(name): s for name, s in (species or {}).items()}
    if unknown := set(given) - set(counts):
        raise ValueError(f"species= names {min(unknown)!r}, which is none of the data sets, {', '.join(counts)}.")
    described = {name: _of_data_set(name, describe_names, cells.var_names) for name, cells in counts.items()}
    species_of = {name: given.get(name, found.species) for name, found in described.items()}
    kinds = {name: found.kind for name, found in described.items()}
    if len(set(kinds.values())) > 1:
        raise ValueError(
            f"all data sets need the same kind of gene names, found {', '.join(f'{n}: {k}' for n, k in kinds.items())}; "
            "rename the genes of some, for example by a column of var."
        )
    known = {name: s for name, s in species_of.items() if s is not None}
    if len(set(known.values())) < 2:
        return species_of, next(iter(known.values()), None)
    n_cells = pd.Series({name: counts[name].n_obs for name in known}).groupby(known).sum()
    common = n_cells.idxmax()
    if orthologs is None:
        listed = ", ".join(f"{name}: {s}" for name, s in known.items())
        raise ValueError(
            f"data sets of several species ({listed}) need orthologs=, a table of one-to-one orthologs with a column for "
            "each species. If the species are not right, specify them with species=."
        )
    named_right = [counts[name].var_names for name in known if known[name] == common]
    genes = named_right[0].append(named_right[1:]).unique()
    for name in known:
        if known[name] != common:
            mapped = map_orthologs(LightAnnData(counts[name]), orthologs, target=genes)
            counts[name] = replace(counts[name], matrix=mapped.X, var_names=mapped.var_names)
    return species_of, common


def _of_data_set(name: str, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """What the function finds; its errors name the data set."""
    try:
        return function(*arguments, **options)
    except (TypeError, ValueError, KeyError) as error:
        raise type(error)(f"data set {name!r}: {error.args[0]}") from error


def _versions_matched(counts: Mapping[str, Counts]) -> dict[str, Counts]:
    """Ensembl ids without their versions where these are not the same in all data sets."""
    plain = {name: without_version(cells.var_names) for name, cells in counts.items()}
    versions: dict[str, str] = {}
    same = all(
        versions.setdefault(gene, name) == name
        for dataset, genes in plain.items()
        for gene, name in zip(genes, counts[dataset].var_names, strict=True)
    )
    if same:
        return dict(counts)
    logger.info("Ensembl ids are compared without their version, as those of the data sets differ.")
    return {name: replace(cells, var_names=plain[name]) for name, cells in counts.items()}


def _summed(counts: Counts) -> Counts:
    """The counts in memory, columns of one gene name summed."""
    names = counts.var_names.astype(str)
    vocabulary = GeneVocabulary(tuple(dict.fromkeys(names)))
    matrix, _ = vocabulary.align(counts.matrix[:], names)
    obs = pd.DataFrame(index=counts.obs_names.astype(str))
    return replace(counts, matrix=matrix, obs=obs, var_names=pd.Index(vocabulary.genes))


def _most_variable(counts: Mapping[str, Counts], vocabulary: GeneVocabulary, n_genes: int) -> GeneVocabulary:
    """The genes that vary most within some data set: by their best rank, which a gene of one tissue only can reach too."""
    ranks = {}
    for name, cells in counts.items():
        order = _of_data_set(name, variable_genes, cells)
        ranks[name] = pd.Series(np.arange(len(order)) / len(order), index=order)
    table = pd.DataFrame(ranks).reindex(list(vocabulary.genes)).fillna(1.0)  # not measured, or never seen: last
    kept = table.min(axis=1).sort_values(kind="stable").index[:n_genes]
    return GeneVocabulary(tuple(sorted(kept)), vocabulary.species)
