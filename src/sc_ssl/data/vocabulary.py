"""The genes of a model over many data sets: their names, order and species, and how data come into that order."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self

import numpy as np
import pandas as pd
from scipy import sparse

from .names import locate_genes
from .rows import is_backed, to_csr

NameKind = Literal["symbol", "ensembl"]
ENSEMBL = {"human": re.compile(r"ENSG\d{11}"), "mouse": re.compile(r"ENSMUSG\d{11}")}
ANY_ENSEMBL = re.compile(r"ENS[A-Z]*G\d{11}(\.\d+)?")
#: symbols as the nomenclature committees write them: TP53, C1orf127 and HLA-DRA; Trp53 and 1700001C02Rik
SYMBOL = {
    "human": re.compile(r"(?=.*[A-Z])([A-Z0-9.\-]+|C[0-9XY]+orf\d+)"),
    "mouse": re.compile(r"[A-Z][a-z].*|.*Rik\d*"),
}
#: share of the names that must look alike; share of the rarer kind from which on names are mixed: below it are the ids
#: that genes without a symbol keep
CLEAR_SHARE, MIXED_SHARE = 0.6, 0.25


class GeneNames(NamedTuple):
    """What names of genes are: symbols or Ensembl ids, and of which species (``None`` when they do not show it)."""

    kind: NameKind
    species: str | None


def describe_names(names: Sequence[str] | pd.Index) -> GeneNames:
    """Distinguish symbols from Ensembl ids and human from mouse, by how the names are written.

    Raises
    ------
    ValueError
        Symbols and Ensembl ids are mixed: a quarter or more of each.
    """
    texts = [str(name) for name in names]
    is_ensembl = [ANY_ENSEMBL.fullmatch(text) is not None for text in texts]
    share = float(np.mean(is_ensembl)) if texts else 0.0
    if MIXED_SHARE <= share <= 1 - MIXED_SHARE:
        symbol, identifier = texts[is_ensembl.index(False)], texts[is_ensembl.index(True)]
        raise ValueError(
            f"gene names must be of one kind, found {share:.0%} Ensembl ids such as {identifier!r} among symbols such "
            f"as {symbol!r}; put one kind into var_names."
        )
    kind: NameKind = "ensembl" if share > 0.5 else "symbol"
    patterns = {s: re.compile(p.pattern + r"(\.\d+)?") for s, p in ENSEMBL.items()} if kind == "ensembl" else SYMBOL
    shares = {species: np.mean([p.fullmatch(text) is not None for text in texts]) for species, p in patterns.items()}
    best = max(shares, key=lambda species: shares[species])
    return GeneNames(kind, best if shares[best] >= CLEAR_SHARE else None)


@dataclass(frozen=True)
class GeneVocabulary:
    """Genes in a fixed order; data are brought into it by name, and what they did not measure is marked.

    Attributes
    ----------
    genes
        Names, all different.
    species
        Whose genes they are, ``None`` when not known.
    """

    genes: tuple[str, ...]
    species: str | None = None
    _index: pd.Index = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index = pd.Index(self.genes, dtype=object)
        if not len(index):
            raise ValueError("a vocabulary needs at least one gene, found none.")
        if not index.is_unique:
            raise ValueError(f"the genes wanted must be unique, found {index[index.duplicated()][0]!r} more than once.")
        object.__setattr__(self, "_index", index)

    @classmethod
    def of(
        cls,
        names: Mapping[str, Sequence[str] | pd.Index],
        *,
        species: Mapping[str, str | None] | None = None,
        across: Literal["union", "intersection"] = "union",
        min_datasets: int = 1,
    ) -> Self:
        """The genes of many data sets: their union within a species, and union or intersection across species.

        Parameters
        ----------
        names
            Data set → names of its genes, those of all species in one nomenclature (:func:`sc_ssl.pp.map_orthologs`).
        species
            Data set → the species that was measured; one for all by default.
        across
            ``"intersection"`` keeps genes that some data set of every species measured, as the paper does.
        min_datasets
            Data sets that must have measured a gene.

        Raises
        ------
        ValueError
            No gene is left, or a data set shares none with the others.
        """
        if across not in ("union", "intersection"):
            raise ValueError(f"across is 'union' or 'intersection', found {across!r}.")
        measured = {dataset: set(map(str, its)) for dataset, its in names.items()}
        if not 1 <= min_datasets <= len(measured):
            raise ValueError(
                f"min_datasets lies between 1 and the number of data sets, {len(measured)}, found {min_datasets}."
            )
        by_species: dict[str | None, set[str]] = {}
        for dataset, its in measured.items():
            by_species.setdefault((species or {}).get(dataset), set()).update(its)
        sets = list(by_species.values())
        kept = set.union(*sets) if across == "union" else set.intersection(*sets)
        n_datasets = Counter(gene for its in measured.values() for gene in its)
        kept = {gene for gene in kept if n_datasets[gene] >= min_datasets}
        for dataset, its in measured.items():
            others = set().union(*(other for name, other in measured.items() if name != dataset))
            if len(measured) > 1 and not its & others & kept:
                raise ValueError(
                    f"data set {dataset!r} shares no gene with the others; it has names such as {min(its, default='')!r}, "
                    f"they {min(others, default='')!r}. Use the same kind of names, and sc_ssl.pp.map_orthologs across "
                    "species."
                )
        return cls(tuple(sorted(kept)), _only(by_species))

    def __len__(self) -> int:
        return len(self.genes)

    @property
    def hash(self) -> str:
        """SHA-256 of the names in their order and of the species."""
        return hashlib.sha256("\n".join([self.species or "", *self.genes]).encode()).hexdigest()

    def align(
        self, matrix: sparse.spmatrix | np.ndarray, names: Sequence[str] | pd.Index
    ) -> tuple[sparse.csr_matrix, np.ndarray]:
        """Bring columns into the order of the vocabulary, by one sparse product; columns of one name are summed.

        Parameters
        ----------
        matrix
            (n, m) counts.
        names
            Name of each column, (m,); repeats are allowed.

        Returns
        -------
        (n, g) CSR float32, and which of the genes were measured, (g,) bool: an absent gene is not a zero.
        """
        column_m = locate_genes(self._index, names, log=True)
        known_m = np.flatnonzero(column_m >= 0)
        selector = sparse.csr_matrix(
            (np.ones(len(known_m), np.float32), (known_m, column_m[known_m])), shape=(len(column_m), len(self))
        )
        measured_g = np.isin(np.arange(len(self)), column_m)
        return to_csr(to_csr(matrix[:] if is_backed(matrix) else matrix) @ selector), measured_g


def _only(by_species: Mapping[str | None, object]) -> str | None:
    return next(iter(by_species)) if len(by_species) == 1 else None
