"""The data path of every embedding: the counts found and refused if wrong, genes picked, cells of our own taken."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from sc_ssl import _compat
from sc_ssl._keys import LIBRARY_SIZE
from sc_ssl._logging import logger
from sc_ssl.data import (
    MIN_COVERAGE,
    Source,
    check_coverage,
    check_input,
    find_counts,
    in_order,
    iter_chunks,
    library_sizes,
    obs_categories,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sc_ssl.data.counts import Kind
    from sc_ssl.models.base import SSLModel

#: fewer cells than this cannot be told apart by any method here
MIN_CELLS = 10
_SAID = {"counts": "raw counts", "log1p": "log-normalised values", "scaled": "scaled values"}


def find(
    adata: AnnData, layer: str | None, input: Kind = "counts", *, of: str = "adata", chosen: bool = False
) -> Source:
    """The counts, said aloud, and refused unless they are what they should be; ``chosen`` by the caller's ``input=``?"""
    try:
        source = find_counts(adata, layer)
        check_input(source, adata, input, chosen=chosen)
    except (KeyError, ValueError) as error:
        raise error if of == "adata" else type(error)(f"{of}: {error.args[0]}") from None
    logger.info("Taking %s from %s.%s.", _SAID[input], of, source.name)
    return source


def private_cells(
    adata: AnnData,
    source: Source,
    genes: Sequence[str],
    *,
    batch_key: str | None = None,
    batch_name: str | None = None,
    input: Kind = "counts",
) -> AnnData:
    """A light AnnData of our own with these genes, so that scvi-tools marks and keeps nothing of the user's."""
    library_size = library_sizes(adata, source.matrix) if input != "scaled" else np.ones(adata.n_obs)
    obs = pd.DataFrame({LIBRARY_SIZE: library_size}, index=adata.obs_names)
    n_empty = int((obs[LIBRARY_SIZE] <= 0).sum())
    if n_empty:
        logger.warning("%d cells have no counts; they are embedded but carry no information.", n_empty)
    if batch_key is not None:
        obs[batch_name or batch_key] = pd.Categorical(obs_categories(adata, batch_key))
    column_g = adata.var_names.get_indexer(pd.Index(genes))
    matrix = sparse.vstack([in_order(chunk, column_g) for _, chunk in iter_chunks(source.matrix)], format="csr")
    return AnnData(matrix, obs=obs, var=pd.DataFrame(index=pd.Index(genes)))


def cells_of_encoder(adata: AnnData, source: Source, encoder: SSLModel, input: Kind = "counts") -> AnnData:
    """Private cells for what stands on a trained encoder: its genes, and its batches where the cells have their column.

    An error when under half of its genes are there, or it reads other input.
    """
    trained_on, batch_key = (encoder.setup_arguments[name] for name in ("input", "batch_key"))
    if trained_on != input:
        remedy = (
            f"train an encoder on {_SAID[input]}" if input != "scaled" else "leave out the encoder: none reads them"
        )
        raise ValueError(
            f"the encoder was trained on {_SAID[trained_on]} (input={trained_on!r}), the cells are taken for "
            f"{_SAID[input]} (input={input!r}); {remedy}."
        )
    batch_key = batch_key if batch_key in adata.obs else None
    return private_cells(adata, source, known_genes(adata, encoder), batch_key=batch_key, input=input)


def known_genes(adata: AnnData, model: SSLModel) -> list[str]:
    """The genes of a trained model that are there; an error when under half are."""
    check_coverage(adata.var_names, model.var_names, MIN_COVERAGE)
    return [gene for gene in model.var_names if gene in adata.var_names]


@contextmanager
def registered(
    model_class: type[SSLModel], cells: AnnData, input: Kind = "counts", batch_key: str | None = None
) -> Iterator[None]:
    """Private cells for a model of this class, inside the block; scvi-tools keeps no reference to them."""
    try:
        model_class.setup_anndata(cells, library_size_key=LIBRARY_SIZE, input=input, batch_key=batch_key)
        yield
    finally:
        _compat.release(model_class, cells)
