"""The data path of every tool: counts are read once, and light cells of our own are made of them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sc_ssl import _compat
from sc_ssl._keys import LIBRARY_SIZE
from sc_ssl._logging import logger
from sc_ssl.data import (
    MIN_CELLS,
    MIN_COVERAGE,
    LightAnnData,
    check_coverage,
    describe_names,
    locate_genes,
    obs_categories,
    read_counts,
    warn_of_empty,
    warn_of_features,
)
from sc_ssl.pp import map_orthologs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from anndata import AnnData

    from sc_ssl.data import Counts, Kind
    from sc_ssl.models import SSLModel

#: what ``input=`` takes, but where more is said
INPUTS: tuple[Kind, ...] = ("counts", "log1p")
_KIND = {"counts": "raw counts", "log1p": "log-normalised values", "scaled": "scaled values"}


def find(
    adata: AnnData,
    layer: str | None,
    input: Kind = "counts",
    *,
    of: str = "adata",
    min_cells: int = MIN_CELLS,
    takes: Sequence[Kind] = (),
) -> Counts:
    """Read the counts of a user's cells and log where they lie; see :func:`~sc_ssl.data.read_counts`."""
    try:
        counts = read_counts(adata, layer, input, min_cells=min_cells, takes=takes)
    except (KeyError, TypeError, ValueError) as error:
        raise error if of == "adata" else type(error)(f"{of}: {error.args[0]}") from None
    warn_of_features(adata, of)
    logger.info("Taking %s from %s.%s.", _KIND[counts.kind], of, counts.name)
    warn_of_empty(counts)
    return counts


def private_cells(
    counts: Counts, genes: Sequence[str] | pd.Index, *, batch_key: str | None = None, batch_name: str | None = None
) -> LightAnnData:
    """A light AnnData of our own with these genes, so that scvi-tools marks and keeps nothing of the user's.

    Its ``obs`` holds the library sizes over all genes, and the batch, under ``batch_name`` where that is given.
    """
    library_size = np.ones(counts.n_obs) if counts.kind == "scaled" else counts.library_size
    obs = pd.DataFrame({LIBRARY_SIZE: library_size}, index=counts.obs_names)
    if batch_key is not None:
        obs[batch_name or batch_key] = pd.Categorical(obs_categories(counts, batch_key))
    return LightAnnData(replace(counts.take_genes(genes), obs=obs))


def take_cells(cells: LightAnnData, kept_n: np.ndarray) -> LightAnnData:
    """Some private cells by a boolean mask, which need not be checked again; of ``obs``, and the counts alone."""
    counts = cells.checked()
    obs = counts.obs[kept_n].copy()
    for name in obs.select_dtypes("category"):  # a batch without cells is none
        obs[name] = obs[name].cat.remove_unused_categories()
    return LightAnnData(
        replace(counts, matrix=counts.matrix[kept_n], library_size=counts.library_size[kept_n], obs=obs)
    )


def cells_of_encoder(counts: Counts, encoder: SSLModel) -> LightAnnData:
    """Private cells for a model on a trained encoder: its genes, and its batches where the cells have their column.

    An error when under half of its genes are there, or it reads other input.
    """
    trained_on, batch_key = (encoder.setup_arguments[name] for name in ("input", "batch_key"))
    if trained_on != counts.kind:
        remedy = (
            f"train an encoder on {_KIND[counts.kind]}"
            if counts.kind != "scaled"
            else "leave out the encoder: none reads them"
        )
        raise ValueError(
            f"the encoder was trained on {_KIND[trained_on]} (input={trained_on!r}), the cells are taken for "
            f"{_KIND[counts.kind]} (input={counts.kind!r}); {remedy}."
        )
    batch_key = batch_key if batch_key in counts.obs else None
    return private_cells(counts, known_genes(counts, encoder), batch_key=batch_key)


def known_genes(counts: Counts, model: SSLModel) -> list[str]:
    """The genes of a trained model that are there; an error when under half are."""
    check_coverage(counts.var_names, model.var_names, MIN_COVERAGE)
    there = locate_genes(counts.var_names, model.var_names, log=True) >= 0
    return [gene for gene, found in zip(model.var_names, there, strict=True) if found]


def named_as(model: SSLModel, counts: Counts, orthologs: Any) -> Counts:
    """The same cells, in memory, with genes named as the model's, through the orthologs where need be."""
    wanted, found = describe_names(model.var_names).species, describe_names(counts.var_names).species
    if None in (wanted, found) or wanted == found:
        return counts.take_genes(counts.var_names)
    if orthologs is None:
        raise ValueError(
            f"the encoder's genes are named as {wanted}, those of the cells as {found} ({counts.var_names[0]!r}); pass "
            "orthologs=, a table of one-to-one orthologs."
        )
    mapped = map_orthologs(LightAnnData(counts), orthologs, target=model.var_names)
    return replace(counts, matrix=mapped.X, var_names=mapped.var_names)


def read_by(model: SSLModel, counts: Counts, batch_key: str | None) -> LightAnnData:
    """Private cells under the names of genes, batches and library sizes that a trained model knows.

    ``batch_key`` is the cells' column of the batch, by default the one that the model was trained with.
    """
    setup = model.setup_arguments
    if batch_key is not None and setup["batch_key"] is None:
        raise ValueError("the model was trained without batches; leave out batch_key, or train one with it.")
    named = None if model.takes_new_batches and setup["batch_key"] not in counts.obs else setup["batch_key"]
    genes = known_genes(counts, model)
    cells = private_cells(counts, genes, batch_key=batch_key or named, batch_name=setup["batch_key"])
    if setup["library_size_key"] is not None:
        cells.obs[setup["library_size_key"]] = cells.obs[LIBRARY_SIZE]
    return cells


def named_fields(
    adata: AnnData, reads: Mapping[str, Sequence[str]], model_kwargs: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """The fields of the user's data that a model's arguments name, as (``"obs"``, ``"varm"`` or ``"uns"``, key).

    ``reads`` is that of the model's class. What is no name, or the path of a file, is read by the model itself.
    """
    fields = []
    for argument, places in reads.items():
        key = model_kwargs.get(argument)
        if not isinstance(key, str) or Path(key).expanduser().is_file():
            continue
        place = next((place for place in places if key in getattr(adata, place)), None)
        if place is None:
            has = (f"adata.{place}, which has {', '.join(getattr(adata, place)) or 'none'}" for place in places)
            raise KeyError(f"{key!r} is not in {', nor in '.join(has)}.")
        fields.append((place, key))
    return fields


def take_fields(adata: AnnData, cells: AnnData, fields: Iterable[tuple[str, str]]) -> None:
    """Put fields of the user's data into private cells, those by gene in the order of their genes."""
    for place, key in fields:
        source = adata[:, cells.var_names].varm if place == "varm" else getattr(adata, place)
        getattr(cells, place)[key] = source[key]


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
