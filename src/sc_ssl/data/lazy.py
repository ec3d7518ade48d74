"""Cells that are read when they are needed: views of files, lazily read stores, collections of files."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.experimental import AnnCollection
from scipy import sparse

from sc_ssl import _compat
from sc_ssl._logging import logger

from .rows import is_backed
from .sources import InMemory, Joined, Part, Source, as_source

#: smallest share of its genes that a file of a collection must share with all others
MIN_SHARED = 0.5


class LazyCells(AnnData):
    """Names and annotations of cells in memory, and their matrices where they lie.

    Parameters
    ----------
    obs
        Annotations of the cells.
    var_names
        Names of the genes.
    stored
        The matrix of each layer, ``None`` for ``X``.
    """

    def __init__(self, obs: pd.DataFrame, var_names: pd.Index, stored: dict[str | None, Any]) -> None:
        # an empty matrix stands in for X, 4 bytes a cell: scvi-tools looks at its shape
        shape = (len(obs), len(var_names))
        super().__init__(sparse.csr_matrix(shape, dtype="f4"), obs=obs, var=pd.DataFrame(index=var_names))
        self.stored = stored


def opened(adata: Any) -> Any:
    """An AnnData whose annotations lie in memory; what is no collection and not read lazily is handed back as it is."""
    if isinstance(adata, AnnCollection):
        return _collected(adata)
    if isinstance(adata, _compat.AnnCollectionView):
        whole = _collected(adata.reference)
        rows, columns = (np.arange(n)[i] for n, i in zip(whole.shape, (adata.oidx, adata.vidx), strict=True))
        stored = {name: Part(source, rows, columns) for name, source in whole.stored.items()}
        return LazyCells(whole.obs.iloc[rows].copy(), whole.var_names[columns], stored)
    if isinstance(adata, AnnData) and not isinstance(adata.obs, pd.DataFrame):  # of anndata.experimental.read_lazy
        names: list[str | None] = [name for name in adata.layers if name is not None]
        stored = {name: as_source(stored_matrix(adata, name), "X") for name in [None, *names]}
        return LazyCells(adata.obs.to_memory(), pd.Index(adata.var_names), stored)
    if isinstance(adata, AnnData) and adata.is_view and adata.isbacked:
        names = layer_names(adata)
        stored = {name: stored_matrix(adata, name) for name in [None, *names]}
        return LazyCells(adata.obs.copy(), pd.Index(adata.var_names), stored)
    return adata


def layer_names(adata: AnnData) -> list[str]:
    """Names of the layers that there are."""
    names = adata.stored if isinstance(adata, LazyCells) else adata.layers
    return [name for name in names if name is not None]  # anndata 0.13 lists X under None


def stored_matrix(adata: AnnData, layer: str | None) -> Any:
    """The matrix of a layer, or ``X``, as it lies there; of a view, the rows and columns of what lies there."""
    if isinstance(adata, LazyCells):
        return adata.stored.get(layer)
    if not adata.is_view:
        return adata.X if layer is None else adata.layers[layer]
    whole, rows, columns = _compat.viewed(adata)
    matrix = whole.X if layer is None else whole.layers[layer]
    if matrix is None or not is_backed(matrix):
        return adata.X if layer is None else adata.layers[layer]
    return Part(as_source(matrix, "X"), rows, columns)


def _collected(collection: AnnCollection) -> LazyCells:
    """The cells of several objects, over the genes that all have."""
    adatas = [opened(adata) for adata in collection.adatas]
    genes = collection.var_names
    for number, adata in enumerate(adatas, 1):
        _check_shared(adata, genes, f"file {number} of {len(adatas)}")
    if any(adata.n_vars > len(genes) for adata in adatas):
        logger.info("The files have %d genes in common, which are taken.", len(genes))
    layers = [layer_names(adata) for adata in adatas]
    shared = [name for name in layers[0] if all(name in names for names in layers)]
    _check_counts(layers)
    stored = {
        name: Joined([_part(stored_matrix(a, name), name or "X", a.var_names.get_indexer(genes)) for a in adatas])
        for name in [None, *shared]
        if all(stored_matrix(a, name) is not None for a in adatas)
    }
    return LazyCells(collection.obs.copy(), genes, stored)


def _part(matrix: Any, name: str, column_g: np.ndarray) -> Source:
    source = as_source(matrix, name)
    return Part(source if isinstance(source, Source) else InMemory(source), None, column_g)


def _check_shared(adata: AnnData, genes: pd.Index, file: str) -> None:
    if len(genes) < MIN_SHARED * adata.n_vars:
        raise ValueError(
            f"{file} shares {len(genes)} of its {adata.n_vars} genes with all others, under {MIN_SHARED:.0%}; its names are "
            f"such as {adata.var_names[0]!r}. Name the genes alike, or leave the file out."
        )


def _check_counts(layers: list[list[str]]) -> None:
    """An error when the layer of counts is there in some files only: counts would be mixed with something else."""
    has = ["counts" in names for names in layers]
    if any(has) and not all(has):
        raise KeyError(
            f"layers['counts'] is missing in file {has.index(False) + 1} of {len(has)}, and there in file "
            f"{has.index(True) + 1}; write it there too, or remove it from all and put the counts in X."
        )
