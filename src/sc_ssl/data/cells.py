"""The cells a model reads, in the model's gene order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from scipy import sparse

from sc_ssl._keys import LIBRARY_SIZE
from sc_ssl._logging import logger
from sc_ssl._names import as_names, like_missing

from .counts import Counts, LightAnnData, read_counts, warn_of_empty
from .names import locate_genes
from .rows import SAMPLED_BLOCK, is_backed, iter_chunks, representative, take_rows, to_csr
from .vocabulary import describe_names

if TYPE_CHECKING:
    from anndata import AnnData

    from .values import Kind


#: smallest share of a model's genes that cells must have to be embedded at all
MIN_COVERAGE = 0.5


@dataclass(frozen=True, eq=False)
class Cells:
    """Counts of n cells over the model's g genes, with what belongs to each cell.

    Attributes
    ----------
    matrix
        (n, g) CSR in memory, or a :class:`~sc_ssl.data.Source` on disk where memory would be filled by it.
    column_g
        The column of each of the model's genes in the data; −1 for a gene that they did not measure.
    library_size
        Library size of each cell, counts, (n,), > 0.
    batch
        Batch code of each cell, (n,); −1 for a batch that the model has not seen.
    weight
        How often a cell is drawn in training, relative to the others, (n,) > 0; ``None``: once an epoch each.
    extra
        What else a method wants beside each cell in its minibatches, name → (n, …) float32.
    """

    matrix: Any
    column_g: np.ndarray
    library_size: np.ndarray
    batch: np.ndarray
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)
    weight: np.ndarray | None = None

    @classmethod
    def from_anndata(
        cls,
        adata: AnnData,
        genes: Sequence[str],
        *,
        layer: str | None = None,
        input: Kind = "counts",
        batch_key: str | None = None,
        batches: Sequence[str] = (),
        library_size_key: str | None = None,
        min_coverage: float = 1.0,
    ) -> Self:
        """Read an AnnData for a model of ``genes`` and ``batches``, by name; nothing in it is changed.

        The layer is the one that the model was registered with, see :func:`find_layer`. The library size is
        ``obs[library_size_key]``; when the key is not there, the sum over all genes of ``adata``; without a key, the sum
        over the model's genes.
        """
        counts = read_counts(adata, layer, input, takes=(), registered=True)
        if not isinstance(adata, LightAnnData):  # which are made of cells of which it was logged before
            warn_of_empty(counts)
        library_size = None if library_size_key is None else given_library_sizes(counts, library_size_key)
        cells = cls.from_counts(counts, genes, library_size=library_size, min_coverage=min_coverage)
        return cells if batch_key is None else replace(cells, batch=_batch_codes(counts, batch_key, batches))

    @classmethod
    def from_counts(
        cls,
        counts: Counts,
        genes: Sequence[str],
        *,
        library_size: np.ndarray | None = None,
        batch: np.ndarray | None = None,
        min_coverage: float = 1.0,
    ) -> Self:
        """Cells of counts that were read before; by default their library size is the sum over ``genes``, and one batch."""
        column_g = match_genes(counts.var_names, genes, min_coverage=min_coverage)
        matrix = counts.take_columns(column_g)
        if library_size is None:
            library_size = np.concatenate(
                [np.asarray(c.sum(axis=1, dtype=np.float64)).ravel() for _, c in iter_chunks(matrix)]
            )
        # a cell without counts stays at zero whatever it is divided by
        library_size = np.where(library_size > 0, library_size, 1).astype(np.float32)
        return cls(matrix, column_g, library_size, np.zeros(counts.n_obs, np.int64) if batch is None else batch)

    @property
    def n_cells(self) -> int:
        """Number of cells n."""
        return int(self.matrix.shape[0])

    @property
    def n_genes(self) -> int:
        """Number of the model's genes g."""
        return len(self.column_g)

    @property
    def measured(self) -> np.ndarray:
        """Which of the model's genes the data measured, (g,)."""
        return self.column_g >= 0

    def apart_from(self, adata: AnnData) -> Self:
        """The same cells with counts of their own, which stay as they are when those of the AnnData are changed."""
        if is_backed(self.matrix) or isinstance(adata, LightAnnData):
            return self
        theirs = [matrix.data for matrix in (adata.X, *adata.layers.values()) if sparse.issparse(matrix)]
        shared = any(np.may_share_memory(self.matrix.data, data) for data in theirs)
        return replace(self, matrix=self.matrix.copy()) if shared else self

    def beside(self, **extra: np.ndarray) -> Self:
        """The same cells with arrays (n, …) beside them, under these names in every minibatch."""
        return replace(self, extra={**self.extra, **extra})

    def take(self, index: np.ndarray) -> Self:
        """Some of the cells, in memory, with what is beside them."""
        return replace(
            self,
            matrix=to_csr(self.rows(index)),
            library_size=self.library_size[index],
            batch=self.batch[index],
            extra={name: array[index] for name, array in self.extra.items()},
            weight=None if self.weight is None else self.weight[index],
        )

    def of_one_batch(self) -> Self:
        """The same cells as if all were of one batch."""
        return replace(self, batch=np.zeros_like(self.batch))

    def spread(self, max_cells: int) -> Self:
        """All cells, or a :meth:`sample` of them in memory when there are more than this."""
        if self.n_cells <= max_cells:
            return self
        return self.take(self.sample(max_cells))

    def sample(self, max_cells: int) -> np.ndarray:
        """Positions of at most so many cells, evenly spread in each batch; see :func:`representative`."""
        return representative(self.batch, max_cells, block=SAMPLED_BLOCK if is_backed(self.matrix) else 1)

    def rows(self, index: np.ndarray) -> sparse.csr_matrix:
        """Counts of these cells in the model's gene order, in the order of ``index``."""
        return take_rows(self.matrix, index)

    def chunks(self) -> Iterator[tuple[slice, sparse.csr_matrix]]:
        """All cells in order, a chunk at a time."""
        yield from iter_chunks(self.matrix)


def match_genes(names: pd.Index, genes: Sequence[str], *, min_coverage: float) -> np.ndarray:
    """The column of each gene among ``names``, −1 where missing; an error when too many are.

    Raises
    ------
    ValueError
        Under ``min_coverage`` of the genes are there.
    """
    check_coverage(names, genes, min_coverage)
    column_g = locate_genes(names, genes, log=True)
    missing = np.flatnonzero(column_g < 0)
    if len(missing):
        examples = ", ".join(repr(genes[i]) for i in missing[:3])
        logger.warning(
            "%d of the model's %d genes are missing and take their mean: %s …", len(missing), len(genes), examples
        )
    return column_g


def check_coverage(names: pd.Index, genes: Sequence[str], min_coverage: float) -> None:
    """An error when too few of a model's genes are among the names, with how both are named."""
    found_g = locate_genes(names, genes) >= 0
    if found_g.mean() >= min_coverage:
        return
    examples = ", ".join(repr(genes[i]) for i in np.flatnonzero(~found_g)[:3])
    raise ValueError(
        f"the model needs {min_coverage:.0%} of its {len(genes)} genes, found {found_g.sum()} ({found_g.mean():.0%}); "
        f"missing for example {examples}, while the data have names such as {names[0]!r}. {_remedy(names, genes)}"
    )


_KIND = {"symbol": "symbols", "ensembl": "Ensembl ids"}


def _remedy(names: pd.Index, genes: Sequence[str]) -> str:
    try:
        ours, theirs = describe_names(genes), describe_names(names)
    except ValueError as mixed:
        return f"Besides, {mixed}"
    if ours.kind != theirs.kind:
        return f"The model's genes are named by {_KIND[ours.kind]}, those of the data by {_KIND[theirs.kind]}: rename them."
    if None not in (ours.species, theirs.species) and ours.species != theirs.species:
        return (
            f"The model's genes are named as {ours.species}, those of the data as {theirs.species}: map them by "
            "sc_ssl.pp.map_orthologs(adata, table, target=model.var_names)."
        )
    return "Use the same names, and pass all genes."


def given_library_sizes(counts: Counts, key: str) -> np.ndarray:
    """``obs[key]`` when it is there, else the sum over all genes; (n,), counts."""
    if key not in counts.obs:
        return counts.library_size
    library_size = counts.obs[key].to_numpy(dtype=np.float64)
    bad = ~(np.isfinite(library_size) & (library_size >= 0))
    if bad.any():
        raise ValueError(
            f"obs[{key!r}] must hold library sizes (counts, at least 0), found {library_size[bad.argmax()]} in cell "
            f"{counts.obs_names[bad.argmax()]!r}."
        )
    return library_size


def obs_column(adata: AnnData | Counts, key: str) -> pd.Series:
    """``obs[key]``, (n,); an error when it is not there, or there more than once."""
    if not isinstance(key, str):
        raise TypeError(
            f"a key of obs, such as batch_key, names one column, found {key!r}; join several in a column of their own: "
            "adata.obs['batch'] = adata.obs[['donor', 'chemistry']].astype(str).agg('_'.join, axis=1)."
        )
    if key not in adata.obs:
        raise KeyError(f"{key!r} is not in adata.obs, which has {', '.join(map(str, adata.obs)) or 'none'}.")
    column = adata.obs[key]
    if column.ndim != 1:
        raise ValueError(f"obs has {column.shape[1]} columns {key!r}; rename all but one.")
    return column


def obs_categories(adata: AnnData | Counts, key: str) -> pd.Index:
    """The values of ``obs[key]`` as text, (n,): 1, 1.0 and "1" are one; an error when some are missing."""
    names = as_names(obs_column(adata, key))
    missing = names.isna().to_numpy()
    if missing.any():
        raise ValueError(
            f"obs[{key!r}] must have a value for every cell, found {missing.sum()} missing, the first in cell "
            f"{adata.obs_names[missing.argmax()]!r}; fill them, for example with 'unknown'."
        )
    warn_like_missing(names, key)
    return pd.Index(names)


def warn_like_missing(names: pd.Series, key: str) -> None:
    """Log the values that read as missing ones but are text, as ``astype(str)`` makes of them."""
    for text, n in like_missing(names).items():
        logger.warning(
            "obs[%r] is the text %r for %d cells, which is taken for a name as any other; where it stands for a missing "
            "value, replace it.",
            key,
            text,
            n,
        )


def check_batches(adata: AnnData | Counts, key: str) -> None:
    """An error when a batch has one cell, which would be its own mean, and for a column that models write themselves."""
    obs_column(adata, key)
    if key == LIBRARY_SIZE or key.startswith("_scvi"):
        raise ValueError(
            f"obs[{key!r}] is a column that models write themselves; copy it under another name: "
            f"adata.obs['batch'] = adata.obs[{key!r}]."
        )
    n_of_batch = obs_categories(adata, key).value_counts()
    alone = n_of_batch.index[n_of_batch == 1]
    if len(alone):
        raise ValueError(
            f"each batch in obs[{key!r}] must have two cells at least, found one cell in {', '.join(map(repr, alone[:5]))}; "
            "leave such cells out, or give them the name of another batch."
        )


def warn_of_confounded(batches: pd.Index, labels: pd.Series | pd.Index, batch_key: str) -> None:
    """Log that each type is in one batch alone, so that nothing tells what sets types apart from what sets batches apart."""
    pairs = pd.DataFrame({"type": np.asarray(labels), "batch": np.asarray(batches)}).dropna().drop_duplicates()
    if pairs["batch"].nunique() > 1 and not pairs["type"].duplicated().any():
        logger.warning(
            "Each type is in one batch of obs[%r] alone: what sets types apart and what sets batches apart cannot be told from "
            "each other; is it the right column?",
            batch_key,
        )


def check_alike(adata: AnnData, key: str) -> None:
    """An error when values that differ, such as 1 and "1", are one name, as scvi-tools would count them as two."""
    names, values = as_names(adata.obs[key]), adata.obs[key].astype(object)
    if names.nunique() == values.nunique():
        return
    twice = names[~values.duplicated().to_numpy()]
    twice = twice[twice.duplicated().to_numpy()].iloc[0]
    raise ValueError(
        f"obs[{key!r}] has the name {twice!r} as a number and as text; make all text: adata.obs[{key!r}] = "
        f"adata.obs[{key!r}].astype(str)."
    )


def _batch_codes(counts: Counts, key: str, batches: Sequence[str]) -> np.ndarray:
    """Position of each cell's batch among the model's, −1 for a batch that the model has not seen, (n,)."""
    names = obs_categories(counts, key)
    codes = pd.Index(batches).get_indexer(names)
    if (codes < 0).any():
        unseen = names[codes < 0].unique()
        logger.warning(
            "%d batches are new to the model, which embeds them as it embeds cells of no batch: %s",
            len(unseen),
            ", ".join(unseen[:5]),
        )
    return codes.astype(np.int64)
