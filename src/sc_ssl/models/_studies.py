"""Several data sets as one: genes matched by name and across species, and what each measured kept in mind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData

from sc_ssl._keys import SIZE_FACTOR
from sc_ssl._logging import logger
from sc_ssl.data import (
    GeneVocabulary,
    check_kind,
    check_values,
    describe_names,
    find_counts,
    library_size,
)
from sc_ssl.pp import map_orthologs, select_genes

if TYPE_CHECKING:
    from collections.abc import Mapping

#: column of ``obs`` with the data set, and of ``varm`` with the genes that each measured
DATASET, MEASURED = "dataset", "measured"
MIN_CELLS = 10


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
    """One AnnData of all cells over the vocabulary: ``obs`` data set and library size, ``varm["measured"]``."""
    counts = {name: _counts(name, adata, layer) for name, adata in adatas.items()}
    if not counts:
        raise ValueError("at least one data set is needed, found none.")
    species_of = one_nomenclature(counts, species, orthologs)
    vocabulary = GeneVocabulary.of(
        {name: cells.var_names for name, cells in counts.items()},
        species=species_of,
        across=across,
        min_datasets=min_datasets,
    )
    if n_top_genes is not None:
        vocabulary = _most_variable(counts, vocabulary, n_top_genes)
    aligned, measured = [], {}
    for name, cells in counts.items():
        matrix, measured[name] = vocabulary.align(cells.X, cells.var_names)
        named = f"{name}:" + cells.obs_names
        obs = pd.DataFrame({DATASET: name, SIZE_FACTOR: cells.obs[SIZE_FACTOR].to_numpy()}, index=named)
        aligned.append(AnnData(matrix, obs=obs, var=pd.DataFrame(index=list(vocabulary.genes))))
        logger.info("%s: %d cells, %d of %d genes.", name, cells.n_obs, measured[name].sum(), len(vocabulary))
    joined = ad.concat(aligned)
    joined.obs[DATASET] = pd.Categorical(joined.obs[DATASET], categories=list(counts))
    joined.varm[MEASURED] = pd.DataFrame(measured, index=joined.var_names)
    return joined


def measured_genes(cells: AnnData, datasets: list[str]) -> np.ndarray | None:
    """Which genes each data set measured, (b, g), where :func:`join_studies` noted it."""
    return cells.varm[MEASURED][datasets].to_numpy(dtype=bool).T.copy() if MEASURED in cells.varm else None


def one_nomenclature(
    counts: dict[str, AnnData], species: Mapping[str, str] | None, orthologs: Any
) -> dict[str, str | None]:
    """Rename the genes of rarer species, in place, to those of the most common one; the species of each data set."""
    species_of = {name: (species or {}).get(name, describe_names(a.var_names).species) for name, a in counts.items()}
    kinds = {name: describe_names(cells.var_names).kind for name, cells in counts.items()}
    if len(set(kinds.values())) > 1:
        raise ValueError(
            f"all data sets need the same kind of gene names, found {', '.join(f'{n}: {k}' for n, k in kinds.items())}; "
            "rename the genes of some, for example by a column of var."
        )
    known = {name: s for name, s in species_of.items() if s is not None}
    if len(set(known.values())) < 2:
        return species_of
    n_cells = pd.Series({name: counts[name].n_obs for name in known}).groupby(known).sum()
    common = n_cells.idxmax()
    if orthologs is None:
        listed = ", ".join(f"{name}: {s}" for name, s in known.items())
        raise ValueError(
            f"data sets of several species ({listed}) need orthologs=, a table of one-to-one orthologs with a column for "
            "each species. If the species are not right, say so to ScPretrain.from_adatas with species=."
        )
    for name in known:
        if known[name] != common:
            sizes = counts[name].obs[SIZE_FACTOR]
            counts[name] = map_orthologs(counts[name], orthologs)
            counts[name].obs[SIZE_FACTOR] = sizes
    return species_of


def _counts(name: str, adata: AnnData, layer: str | None) -> AnnData:
    """The counts of one data set with their library sizes; errors say which data set."""
    try:
        if not isinstance(adata, AnnData):
            raise TypeError(f"expected an AnnData, found {type(adata).__name__}.")
        if adata.n_obs < MIN_CELLS:
            raise ValueError(f"at least {MIN_CELLS} cells are needed, found {adata.n_obs}.")
        source = find_counts(adata, layer)
        check_kind(source, "counts")
        check_values(source, adata)
    except (TypeError, ValueError, KeyError) as error:
        raise type(error)(f"data set {name!r}: {error.args[0]}") from error
    obs = pd.DataFrame({SIZE_FACTOR: library_size(adata, source.matrix)}, index=adata.obs_names.astype(str))
    vocabulary = GeneVocabulary(tuple(dict.fromkeys(map(str, adata.var_names))))
    matrix, _ = vocabulary.align(source.matrix[:], adata.var_names.astype(str))
    return AnnData(matrix, obs=obs, var=pd.DataFrame(index=list(vocabulary.genes)))


def _most_variable(counts: Mapping[str, AnnData], vocabulary: GeneVocabulary, n_genes: int) -> GeneVocabulary:
    """The genes that vary most within some data set: by their best rank, which a gene of one tissue only can reach too."""
    ranks = {}
    for name, cells in counts.items():
        order = select_genes(cells, None)
        ranks[name] = pd.Series(np.arange(len(order)) / len(order), index=order)
    table = pd.DataFrame(ranks).reindex(list(vocabulary.genes)).fillna(1.0)  # not measured, or never seen: last
    kept = table.min(axis=1).sort_values(kind="stable").index[:n_genes]
    return GeneVocabulary(tuple(sorted(kept)), vocabulary.species)
