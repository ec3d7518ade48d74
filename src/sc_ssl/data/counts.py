"""Finding the counts in an AnnData, saying what a matrix holds, and refusing what a model cannot use."""

from typing import Any, Literal, NamedTuple

import numpy as np
from anndata import AnnData

from .rows import evenly_spread, iter_chunks, take_rows

Kind = Literal["counts", "log1p", "scaled"]
#: rows and values looked at to tell counts from normalised data
N_SAMPLED_ROWS, N_SAMPLED_VALUES = 512, 100_000


class Source(NamedTuple):
    """A matrix in an AnnData, and its name for messages: ``X`` or ``layers['counts']``."""

    matrix: Any
    name: str


def find_matrix(adata: AnnData, layer: str | None = None) -> Source:
    """The named layer, or ``X``."""
    if layer is None:
        if adata.X is None:
            raise ValueError("adata.X is empty; name the layer of raw counts with layer=.")
        return Source(adata.X, "X")
    if layer not in adata.layers:
        names = ", ".join(name for name in adata.layers if name is not None)  # anndata 0.13 lists X under None
        raise KeyError(f"layer {layer!r} is not in adata.layers, which has {names or 'none'}.")
    return Source(adata.layers[layer], f"layers[{layer!r}]")


def find_counts(adata: AnnData, layer: str | None = None) -> Source:
    """The named layer, else ``layers["counts"]``, else ``X``; never ``.raw``, which may hold anything."""
    return find_matrix(adata, "counts" if layer is None and "counts" in adata.layers else layer)


def describe_matrix(matrix: Any) -> Kind:
    """What up to 100,000 stored values, evenly spread and always the same ones, say the matrix holds.

    ``"counts"``: non-negative integers. ``"scaled"``: some negative values. ``"log1p"``: non-negative fractions. Values
    that are no numbers say nothing; :func:`check_values` refuses them.
    """
    values = take_rows(matrix, evenly_spread(matrix.shape[0], N_SAMPLED_ROWS)).data
    values = values[:: max(1, len(values) // N_SAMPLED_VALUES)]
    values = values[np.isfinite(values)]  # NaN is no kind of its own
    if (values < 0).any():
        return "scaled"
    return "counts" if np.array_equal(values, np.round(values)) else "log1p"


def check_kind(source: Source, wanted: Literal["counts", "log1p"], *, chosen: bool = True) -> None:
    """Refuse a matrix that does not hold what is wanted, with the remedy; ``chosen`` by the caller's ``input=``, or not."""
    if wanted not in ("counts", "log1p"):
        raise ValueError(f"input is 'counts' or 'log1p', found {wanted!r}.")
    found = describe_matrix(source.matrix)
    if found != wanted:
        remedy = _REMEDY[wanted, found]
        if chosen and (wanted, found) == ("counts", "log1p"):
            remedy += "; if log-normalised values are all there is, say so with input='log1p'"
        raise ValueError(f"{source.name} must hold {_MEANING[wanted]}, found {_MEANING[found]}; {remedy}.")


_MEANING = {
    "counts": "raw counts (non-negative integers)",
    "log1p": "log-normalised values (fractions, no negatives)",
    "scaled": "scaled values (with negatives)",
}
_POINT = "put the raw counts in adata.layers['counts'] or name their layer with layer="
_REMEDY = {
    ("counts", "log1p"): _POINT,
    ("counts", "scaled"): _POINT,
    ("log1p", "counts"): "leave out input='log1p': counts are the better input",
    ("log1p", "scaled"): "name the layer of log-normalised, unscaled values with layer=",
}


def check_input(source: Source, adata: AnnData, input: Kind, *, chosen: bool = True) -> None:
    """Refuse what a model cannot read; scaled values are any finite ones."""
    if input != "scaled":
        check_kind(source, input, chosen=chosen)
    check_values(source, adata, signed=input == "scaled")


def check_values(source: Source, adata: AnnData, *, signed: bool = False) -> None:
    """Refuse NaN and infinite values anywhere in the matrix, and negative ones unless ``signed``; names the first."""
    for rows, chunk in iter_chunks(source.matrix):
        bad = ~(np.isfinite(chunk.data) & (signed | (chunk.data >= 0)))
        if bad.any():
            position = int(bad.argmax())
            cell = rows.start + int(np.searchsorted(chunk.indptr, position, side="right")) - 1
            raise ValueError(
                f"{source.name} must hold finite{'' if signed else ', non-negative'} values; found {chunk.data[position]} in cell "
                f"{adata.obs_names[cell]!r}, gene {adata.var_names[chunk.indices[position]]!r}. Repair the value or "
                "leave out the cell or gene."
            )


def check_cells(adata: AnnData, *, min_cells: int = 2) -> None:
    """Refuse what is no AnnData, too few cells, no genes, and duplicated gene names."""
    if not isinstance(adata, AnnData):
        remedy = "; pass one of its modalities, mdata['rna'] for example" if hasattr(adata, "mod") else ""
        raise TypeError(f"expected an AnnData, found {type(adata).__name__}{remedy}.")
    if adata.n_obs < min_cells:
        raise ValueError(f"at least {min_cells} cells are needed, found {adata.n_obs}.")
    if adata.n_vars == 0:
        raise ValueError("at least one gene is needed, found none.")
    if not adata.var_names.is_unique:
        twice = adata.var_names[adata.var_names.duplicated()].unique()
        raise ValueError(
            f"gene names must be unique, found {len(twice)} more than once, for example {twice[0]!r}; call "
            "adata.var_names_make_unique() or sum the duplicates."
        )
