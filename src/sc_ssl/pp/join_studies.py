"""Several data sets as one: genes matched by name and across species, and what each measured kept in mind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData

from sc_ssl._keys import DATASET, LIBRARY_SIZE, MEASURED, SPECIES
from sc_ssl._logging import logger
from sc_ssl.data import GeneVocabulary, Source, check_kind, check_values, describe_names, find_counts, library_sizes

from .map_orthologs import map_orthologs
from .select_genes import select_genes

MIN_CELLS = 10

T = TypeVar("T")


def join_studies(
    adatas: Mapping[str, AnnData],
    *,
    species: Mapping[str, str] | None = None,
    orthologs: Any = None,
    across: Any = "union",
    min_datasets: int = 1,
    n_top_genes: int | None = None,
    layer: str | None = None,
) -> AnnData:
    """One AnnData of all cells over the vocabulary: ``obs`` data set and library size, ``varm`` measured, ``uns`` species."""
    if not isinstance(adatas, Mapping):
        raise TypeError(f"data sets are given by name, {{name: AnnData, …}}, found a {type(adatas).__name__}.")
    if not adatas:
        raise ValueError("at least one data set is needed, found none.")
    names = pd.Index(map(str, adatas))
    if not names.is_unique:
        raise ValueError(f"every data set needs a name of its own, found {names[names.duplicated()][0]!r} twice.")
    counts = {str(name): _counts(str(name), adata, layer) for name, adata in adatas.items()}
    species_of, common = one_nomenclature(counts, species, orthologs)
    vocabulary = GeneVocabulary.of(
        {name: cells.var_names for name, cells in counts.items()},
        species=species_of,
        across=across,
        min_datasets=min_datasets,
    )
    if n_top_genes is not None:
        if n_top_genes < 2:
            raise ValueError(f"n_top_genes is at least 2, found {n_top_genes}.")
        vocabulary = _most_variable(counts, vocabulary, n_top_genes)
    aligned, measured = [], {}
    for name, cells in counts.items():
        matrix, measured[name] = vocabulary.align(cells.X, cells.var_names)
        named = f"{name}:" + cells.obs_names
        obs = pd.DataFrame({DATASET: name, LIBRARY_SIZE: cells.obs[LIBRARY_SIZE].to_numpy()}, index=named)
        aligned.append(AnnData(matrix, obs=obs, var=pd.DataFrame(index=list(vocabulary.genes))))
        logger.info("%s: %d cells, %d of %d genes.", name, cells.n_obs, measured[name].sum(), len(vocabulary))
    joined = ad.concat(aligned)
    joined.obs[DATASET] = pd.Categorical(joined.obs[DATASET], categories=list(counts))
    if common is not None:
        joined.uns[SPECIES] = common
    joined.varm[MEASURED] = pd.DataFrame(measured, index=joined.var_names)
    return joined


def one_nomenclature(
    counts: dict[str, AnnData], species: Mapping[str, str] | None, orthologs: Any
) -> tuple[dict[str, str | None], str | None]:
    """Rename the genes of rarer species, in place, to those of the most common one.

    Returns the species of each data set, and the one whose names all have now.
    """
    given = {str(name): s for name, s in (species or {}).items()}
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
            "each species. If the species are not right, say so to ScPretrain.from_adatas with species=."
        )
    named_right = [counts[name].var_names for name in known if known[name] == common]
    genes = named_right[0].append(named_right[1:]).unique()
    for name in known:
        if known[name] != common:
            sizes = counts[name].obs[LIBRARY_SIZE]
            counts[name] = map_orthologs(counts[name], orthologs, target=genes)
            counts[name].obs[LIBRARY_SIZE] = sizes
    return species_of, common


def _of_data_set(name: str, function: Callable[..., T], *arguments: Any) -> T:
    """What the function finds; its errors say which data set."""
    try:
        return function(*arguments)
    except (TypeError, ValueError, KeyError) as error:
        raise type(error)(f"data set {name!r}: {error.args[0]}") from error


def _checked(adata: AnnData, layer: str | None) -> Source:
    if not isinstance(adata, AnnData):
        raise TypeError(f"expected an AnnData, found {type(adata).__name__}.")
    if adata.n_obs < MIN_CELLS:
        raise ValueError(f"at least {MIN_CELLS} cells are needed, found {adata.n_obs}.")
    source = find_counts(adata, layer)
    check_kind(source, "counts", chosen=False)
    check_values(source, adata)
    return source


def _counts(name: str, adata: AnnData, layer: str | None) -> AnnData:
    """The counts of one data set with their library sizes."""
    source = _of_data_set(name, _checked, adata, layer)
    obs = pd.DataFrame({LIBRARY_SIZE: library_sizes(adata, source.matrix)}, index=adata.obs_names.astype(str))
    vocabulary = GeneVocabulary(tuple(dict.fromkeys(map(str, adata.var_names))))
    matrix, _ = vocabulary.align(source.matrix[:], adata.var_names.astype(str))
    return AnnData(matrix, obs=obs, var=pd.DataFrame(index=list(vocabulary.genes)))


def _most_variable(counts: Mapping[str, AnnData], vocabulary: GeneVocabulary, n_genes: int) -> GeneVocabulary:
    """The genes that vary most within some data set: by their best rank, which a gene of one tissue only can reach too."""
    ranks = {}
    for name, cells in counts.items():
        order = _of_data_set(name, select_genes, cells, None)
        ranks[name] = pd.Series(np.arange(len(order)) / len(order), index=order)
    table = pd.DataFrame(ranks).reindex(list(vocabulary.genes)).fillna(1.0)  # not measured, or never seen: last
    kept = table.min(axis=1).sort_values(kind="stable").index[:n_genes]
    return GeneVocabulary(tuple(sorted(kept)), vocabulary.species)
