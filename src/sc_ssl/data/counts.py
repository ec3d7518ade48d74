"""The counts in an AnnData: found, described and checked once, and handed on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from sc_ssl._logging import logger
from sc_ssl._names import as_text, like_missing

from .lazy import layer_names, opened, stored_matrix
from .names import gene_names, locate_genes
from .rows import in_order, is_backed, iter_chunks, to_csr
from .sources import Part, as_source
from .values import MEANING, Kind, Values, describe_values

if TYPE_CHECKING:
    from collections.abc import Sequence

#: no method here separates fewer cells than this
MIN_CELLS = 10
#: a matrix on disk up to this size in memory is loaded; a value takes four bytes, and its column four
MAX_LOADED_BYTES, BYTES_PER_VALUE = 2**29, 8
#: names of the spike-ins of the External RNA Controls Consortium, and what Cell Ranger calls genes in var["feature_types"]
SPIKE_IN, FEATURE_TYPES, GENE_EXPRESSION = r"ERCC[-_.]\d{5}", "feature_types", "Gene Expression"


@dataclass(frozen=True, eq=False)
class Counts:
    """Counts of n cells over m genes that were found, described and checked by :func:`read_counts`.

    What needs counts takes this object and looks at no value for a second time.

    Attributes
    ----------
    matrix
        (n, m), CSR in memory, or a backed array as it lies on disk.
    name
        Where that is, for messages: ``X`` or ``layers['counts']``.
    kind
        What it holds: ``"counts"``, ``"log1p"`` or ``"scaled"``.
    library_size
        Counts per cell over all genes, (n,) float64, also over genes that :meth:`take_genes` leaves out.
    obs
        What is known of the cells; read and never written.
    var_names
        Names of the genes, (m,).
    n_values
        How many values are stored, on disk too.
    """

    matrix: Any
    name: str
    kind: Kind
    library_size: np.ndarray
    obs: pd.DataFrame
    var_names: pd.Index
    n_values: int = 0

    @property
    def n_obs(self) -> int:
        """Number of cells n."""
        return len(self.obs)

    @property
    def stays_on_disk(self) -> bool:
        """Whether the matrix is read from disk whenever it is needed, because memory would be filled by it."""
        return is_backed(self.matrix) and BYTES_PER_VALUE * self.n_values > MAX_LOADED_BYTES

    @property
    def obs_names(self) -> pd.Index:
        """Names of the cells, (n,)."""
        return self.obs.index

    def take_genes(self, genes: Sequence[str] | pd.Index) -> Counts:
        """These genes in this order, as CSR in memory where they fit; library sizes stay those over all genes."""
        names = pd.Index(genes)
        column_g = locate_genes(self.var_names, names)
        if (column_g < 0).any():
            missing = names[column_g < 0]
            raise KeyError(
                f"{len(missing)} of {len(names)} genes are not among the data's, for example {missing[0]!r}."
            )
        return replace(self, matrix=self.take_columns(column_g), var_names=names)

    def take_columns(self, column_g: np.ndarray) -> Any:
        """These columns in this order, −1 for an empty one: CSR in memory, or on disk a :class:`Source` that is too large."""
        if self.stays_on_disk:
            return Part(self.matrix, None, column_g)
        if not is_backed(self.matrix):
            return in_order(self.matrix, column_g)
        return sparse.vstack([in_order(chunk, column_g) for _, chunk in iter_chunks(self.matrix)], format="csr")


class LightAnnData(AnnData):
    """A light AnnData of our own around checked counts, which scvi-tools may mark in place of the user's.

    The result of the check travels with it: :func:`read_counts` takes it from here. Views and copies are plain
    AnnData, and so is an object whose ``X`` was exchanged: these are checked like any other.

    Parameters
    ----------
    counts
        What becomes ``X``, ``obs`` and ``var_names``; ``obs`` is copied.
    """

    def __init__(self, counts: Counts) -> None:
        # what stays on disk is no X of an AnnData; an empty matrix of its shape, 4 bytes a cell, stands in for it
        self._x = counts.matrix if not is_backed(counts.matrix) else sparse.csr_matrix(counts.matrix.shape, dtype="f4")
        super().__init__(self._x, obs=counts.obs.copy(), var=pd.DataFrame(index=counts.var_names))
        self._checked = counts

    def checked(self) -> Counts | None:
        """What is known of the counts, with ``obs`` as it is now; ``None`` when they are no longer those."""
        same = self.X is self._x
        return replace(self._checked, name="X", obs=self.obs, var_names=self.var_names) if same else None


def read_counts(
    adata: AnnData,
    layer: str | None = None,
    input: Kind | None = "counts",
    *,
    min_cells: int = 1,
    unique_genes: bool = True,
    takes: Sequence[Kind] = ("counts", "log1p"),
    registered: bool = False,
) -> Counts:
    """Find the counts of an AnnData, describe and check them, in one pass over the values.

    Parameters
    ----------
    adata
        Cells × genes, in memory or backed; not changed.
    layer
        Name of a layer; see :func:`find_layer` for ``None``.
    input
        What the matrix must hold; ``None`` takes whatever it does.
    min_cells
        Fewest cells.
    unique_genes
        Refuse gene names that occur more than once.
    takes
        What the caller's ``input`` argument takes, so that the remedy may name it; empty where it has none.
    registered
        The layer is that of a model's training cells, see :func:`find_layer`.

    Raises
    ------
    TypeError
        No AnnData.
    KeyError
        No such layer.
    ValueError
        Too few cells, no genes, duplicated gene names; a matrix that holds something else; NaN or infinite values, or
        negative ones unless scaled values are wanted.
    """
    adata = opened(adata)
    names = check_cells(adata, min_cells=min_cells, unique_genes=unique_genes)
    known = adata.checked() if isinstance(adata, LightAnnData) else None
    if known is not None and input in (known.kind, None):
        return known
    matrix, name = layer_matrix(adata, find_layer(adata, layer, input, registered=registered))
    found = None
    if input != "scaled":  # any finite values are taken for scaled ones
        found = describe_values(matrix)
        input = _check_kind(found, input, name, adata, takes)
    if not is_backed(matrix):
        matrix = to_csr(matrix)  # once, for all that read it
        if input == "counts" and not found.exact:  # whole but for the rounding of other packages
            matrix = matrix.copy()
            np.rint(matrix.data, out=matrix.data)
    library_size, n_values = _totals(matrix, name, adata, input)
    return Counts(matrix, name, input, library_size, _named(adata.obs), names, n_values)


def _named(obs: pd.DataFrame) -> pd.DataFrame:
    """The table of the cells, whose names are text."""
    if obs.index.inferred_type in ("string", "empty"):
        return obs
    return obs.set_axis(pd.Index([as_text(name) for name in obs.index], dtype=object), axis=0)


def find_layer(
    adata: AnnData, layer: str | None = None, input: Kind | None = "counts", *, registered: bool = False
) -> str | None:
    """The layer that holds the counts, ``None`` for ``X``: the one named, else ``"counts"``, else ``X``; never ``raw``.

    This is the rule of every function and model. ``layers["counts"]`` is looked for where raw counts are wanted; other
    input lies in the layer named, else in ``X``. A layer that a user names must be there. The layer under which the
    training cells of a model were ``registered`` need not be there in new cells, for which the rule goes on.

    Raises
    ------
    KeyError
        The layer named is not there.
    """
    names = layer_names(adata)
    if layer is not None and layer not in names:
        if not registered:
            raise KeyError(f"layer {layer!r} is not in adata.layers, which has {', '.join(names) or 'none'}.")
        layer = None
    if layer is None and input in ("counts", None) and "counts" in names:
        layer = "counts"
    return layer


def layer_matrix(adata: AnnData, layer: str | None) -> tuple[Any, str]:
    """The matrix in this layer, or ``X``, in memory or a :class:`Source`, and its name for messages."""
    name = "X" if layer is None else f"layers[{layer!r}]"
    if (matrix := stored_matrix(adata, layer)) is None:
        raise ValueError("adata.X is empty; name the layer of raw counts with layer=.")
    return as_source(matrix, name), name


def check_anndata(adata: object) -> None:
    """Refuse what is no AnnData."""
    if not isinstance(adata, AnnData):
        remedy = (
            "; pass one of its modalities, mdata['rna'] for example"
            if isinstance(getattr(adata, "mod", None), Mapping)
            else ""
        )
        raise TypeError(f"expected an AnnData, found {type(adata).__name__}{remedy}.")


def check_cells(adata: AnnData, *, min_cells: int = 2, unique_genes: bool = True) -> pd.Index:
    """Names of the genes as text; an error for what is no AnnData, too few cells, no genes, and duplicated names."""
    check_anndata(adata)
    if adata.n_obs < min_cells:
        raise ValueError(f"at least {min_cells} cells are needed, found {adata.n_obs}.")
    if adata.n_vars == 0:
        raise ValueError("at least one gene is needed, found none.")
    names = gene_names(adata.var_names)
    if unique_genes and not names.is_unique:
        twice = names[names.duplicated()].unique()
        raise ValueError(
            f"gene names must be unique, found {len(twice)} more than once, for example {twice[0]!r}; call "
            "adata.var_names_make_unique() or sum the duplicates."
        )
    return names


def warn_of_empty(counts: Counts) -> None:
    """Log how many cells have no counts."""
    empty = np.flatnonzero(counts.library_size <= 0) if counts.kind != "scaled" else ()
    if len(empty):
        logger.warning(
            "%d cells have no counts, %r for example; they are embedded but carry no information.",
            len(empty),
            counts.obs_names[empty[0]],
        )


def warn_of_features(adata: AnnData, of: str = "adata") -> None:
    """Log features that are no genes: other ``var["feature_types"]``, spike-ins, and names made of missing ones."""
    names, var = gene_names(pd.Index(adata.var_names)), getattr(adata, "var", None)
    if isinstance(var, pd.DataFrame) and FEATURE_TYPES in var:  # of cells that are read lazily it is not read
        types = var[FEATURE_TYPES]
        kinds = types.astype(str).to_numpy()
        others = (types.notna() & (kinds != GENE_EXPRESSION)).to_numpy()
        if others.any():
            logger.warning(
                "%d of %s's %d features are no genes by var[%r] (%s), for example %r, but are read as genes; leave them out: "
                "%s[:, %s.var[%r] == %r].copy().",
                *(others.sum(), of, len(names), FEATURE_TYPES, ", ".join(sorted(set(kinds[others]))), names[others][0]),
                *(of, of, FEATURE_TYPES, GENE_EXPRESSION),
            )
    spiked = np.asarray(names.str.fullmatch(SPIKE_IN), dtype=bool)
    if spiked.any():
        logger.warning(
            "%d of %s's features are spike-ins (ERCC), for example %r, but are read as genes; leave them out: "
            "%s[:, ~%s.var_names.str.startswith('ERCC')].copy().",
            *(spiked.sum(), of, names[spiked][0], of, of),
        )
    for text in like_missing(names):
        logger.warning("A gene of %s is called %r, which may stand for a missing name.", of, text)


_POINT = "put the raw counts in adata.layers['counts'] or name their layer with layer="
_ROUND = (
    "round them to whole counts: adata.layers['counts'] = adata.X.copy(); adata.layers['counts'].data = "
    "np.rint(adata.layers['counts'].data), or start from the uncorrected ones"
)
_LOG = "take their log first: sc.pp.log1p(adata), and pass input='log1p'"


def _check_kind(found: Values, wanted: Kind | None, name: str, adata: AnnData, takes: Sequence[Kind]) -> Kind:
    """Refuse a matrix that does not hold what is wanted, with a remedy that the caller takes."""
    if wanted not in ("counts", "log1p", None):
        raise ValueError(f"input is 'counts' or 'log1p', found {wanted!r}.")
    if wanted in (found.kind, None):
        return found.kind
    remedy = _remedy(found.kind, wanted, takes, _counts_elsewhere(adata, name) if wanted == "counts" else None)
    raise ValueError(
        f"{name} must hold {MEANING[wanted]}, found {MEANING[found.kind]}, the largest {found.largest:.6g}; {remedy}."
    )


def _remedy(found: str, wanted: str, takes: Sequence[Kind], elsewhere: str | None) -> str:
    if wanted == "log1p":
        return {
            "counts": "leave out input='log1p': counts are the better input",
            "corrected": f"{_ROUND}, and leave out input='log1p'",
            "normalized": "take their log first: sc.pp.log1p(adata)",
            "scaled": "name the layer of log-normalised, unscaled values with layer=",
        }[found]
    if found == "corrected":
        return elsewhere or _ROUND
    remedy = elsewhere or _POINT
    if found == "normalized" and "log1p" in takes:
        return f"{remedy}; if these are all there is, {_LOG}"
    if found in takes:
        return f"{remedy}; if {MEANING[found].partition(' (')[0]} are all there is, pass input={found!r}"
    return remedy


def _counts_elsewhere(adata: AnnData, name: str) -> str | None:
    """How to take counts that lie in another layer, in X or in raw; ``None`` where there are none."""
    for layer in (None, *layer_names(adata)):
        try:
            matrix, other = layer_matrix(adata, layer)
            if other != name and describe_values(matrix).kind == "counts":
                what = "X" if layer is None else f"layers[{layer!r}]"
                took = "" if layer is None else f"pass layer={layer!r}, or "
                return f"{what} holds counts: {took}adata.layers['counts'] = adata.{what}"
        except (TypeError, ValueError):  # no matrix that could be read
            continue
    if adata.raw is not None and not adata.isbacked and describe_values(adata.raw.X).kind == "counts":
        return "adata.raw holds counts: pass adata.raw.to_adata(), or put them in adata.layers['counts']"
    return None


def _totals(matrix: Any, name: str, adata: AnnData, kind: Kind) -> tuple[np.ndarray, int]:
    """Sum of each cell, (n,) float64, and the number of stored values; an error at the first value that is NaN, infinite or of the wrong sign."""
    totals, n_values, lowest = [], 0, -np.inf if kind == "scaled" else 0.0
    for rows, chunk in iter_chunks(matrix):
        values = chunk.data
        # two reductions without a mask in memory; comparisons with NaN are false
        if len(values) and not (-np.inf < values.min() >= lowest and values.max() < np.inf):
            _refuse_value(chunk, rows, name, adata, lowest)
        totals.append(np.asarray(chunk.sum(axis=1, dtype=np.float64)).ravel())
        n_values += len(values)
    return np.concatenate(totals), n_values


def _refuse_value(chunk: sparse.csr_matrix, rows: slice, name: str, adata: AnnData, lowest: float) -> None:
    """An error with the first bad value, its cell and gene."""
    bad = ~(np.isfinite(chunk.data) & (chunk.data >= lowest))
    position = int(bad.argmax())
    cell = rows.start + int(np.searchsorted(chunk.indptr, position, side="right")) - 1
    raise ValueError(
        f"{name} must hold finite{'' if lowest < 0 else ', non-negative'} values; found {chunk.data[position]} in cell "
        f"{adata.obs_names[cell]!r}, gene {adata.var_names[chunk.indices[position]]!r}. Repair the value or leave out the "
        "cell or gene."
    )
