"""What a tool leaves in an AnnData: the embedding, and beside it what was done."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from sc_ssl._checks import check_finite
from sc_ssl._keys import cluster_keys
from sc_ssl._logging import logger
from sc_ssl.data import write_cells
from sc_ssl.models import SSLModel
from sc_ssl.train import duration

#: where in an AnnData, ``"obs"`` or ``"obsm"``, and under which key
Field = tuple[str, str]

#: packages whose versions are kept beside a result
RECORDED_VERSIONS = ("sc_ssl", "scvi-tools", "torch", "anndata", "scanpy", "scikit-learn", "scipy", "numpy")


def record(genes: Sequence[str] | None, params: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """What was done, and from which genes if from genes, in types that h5ad and zarr can hold."""
    done = {"params": storable(params), "versions": {name: metadata.version(name) for name in RECORDED_VERSIONS}}
    if genes is not None:
        done["genes"] = {"names": np.asarray(genes, dtype=object), "hash": names_hash(genes)}
    return done | more


def names_hash(genes: Sequence[str]) -> str:
    """SHA-256 of the names of genes in their order."""
    return hashlib.sha256("\n".join(genes).encode()).hexdigest()


def curves(model: SSLModel) -> dict[str, np.ndarray]:
    """The loss curves of a model, term → a value an epoch."""
    return {as_key(term): frame[term].to_numpy(dtype=float) for term, frame in (model.history or {}).items()}


def as_key(name: str) -> str:
    """The name of a batch, protein or drug as h5ad and zarr can hold it: they take a slash for a folder."""
    name = str(name).replace("/", "_")
    return f"_{name}" if name.strip(".") == "" else name


def storable(value: Any) -> Any:
    """Plain values; what has none, such as a callback, by its text; entries that are None are left out.

    h5ad has no lists of dictionaries or of lists, and no names with a slash: these are kept as JSON.
    """
    if isinstance(value, Mapping) and any("/" in str(name) for name in value):
        return json.dumps({str(name): storable(entry) for name, entry in value.items()}, default=str)
    if isinstance(value, Mapping):
        return {str(name): storable(entry) for name, entry in value.items() if entry is not None}
    if isinstance(value, list | tuple):
        entries = [storable(entry) for entry in value]
        return json.dumps(entries, default=str) if any(isinstance(e, list | Mapping) for e in entries) else entries
    if isinstance(value, SSLModel):
        return type(value).__name__
    return value if isinstance(value, bool | int | float | str | np.ndarray | np.generic) else str(value)


def is_record(entry: Any) -> bool:
    """Whether an entry of ``uns`` is what :func:`record` made."""
    return isinstance(entry, Mapping) and "params" in entry and "sc_ssl" in (entry.get("versions") or ())


def check_free(adata: AnnData, fields: Sequence[Field], uns_key: str) -> None:
    """An error when a result would take the place of anything but an earlier result of this package.

    What earlier calls wrote stands in their records, so that running a cell of a notebook twice works.
    """
    if not isinstance(adata, AnnData) or (adata.is_view and adata.isbacked):
        raise ValueError(
            f"{'a view of a file' if isinstance(adata, AnnData) else type(adata).__name__} takes no result: pass "
            "sc_ssl.pp.open_cells(adata), which does and leaves the counts where they are; tl.embed also writes to a store of "
            "its own, out='embedding.zarr'."
        )
    ours = {field for entry in adata.uns.values() if is_record(entry) for field in entry.get("fields", ())}
    for where, key in [*fields, ("uns", uns_key)]:
        if as_key(key) != key:
            raise ValueError(
                f"{where}[{key!r}] cannot be kept in h5ad or zarr; name the result without '/', '.' and '' alone."
            )
    taken = [(where, key) for where, key in fields if key in getattr(adata, where) and f"{where}/{key}" not in ours]
    if uns_key in adata.uns and not is_record(adata.uns[uns_key]):
        taken.append(("uns", uns_key))
    if taken:
        where, key = taken[0]
        raise ValueError(
            f"{where}[{key!r}] is there already, and sc_ssl has not written it; name the result with key_added=, or delete "
            f"it: del adata.{where}[{key!r}]."
        )


def write(
    adata: AnnData, values: Mapping[Field, Any], uns_key: str, done: dict[str, Any], *, copy: bool = False
) -> AnnData | None:
    """Write the result into the cells, or into a copy that is returned; last, so that errors leave them unchanged.

    The record lists the fields, and a line of the log too, with their shapes and the time that it took.
    """
    for (where, key), value in values.items():
        if where == "obsm":
            check_finite(np.asarray(value), f"{where}[{key!r}]")
    adata = destination(adata, copy=copy)
    for (where, key), value in values.items():
        getattr(adata, where)[key] = _storable_columns(value, f"{where}[{key!r}]")
    adata.uns[uns_key] = done | {"fields": np.array([f"{where}/{key}" for where, key in values], dtype=object)}
    added = ", ".join(f"`{where}[{key!r}]` ({_extent(value)})" for (where, key), value in values.items())
    logger.info("added %s in %s", added, duration(done["seconds"]))
    return adata if copy else None


def write_store(out: Path, obs_names: pd.Index, obsm_key: str, uns_key: str, done: dict[str, Any]) -> None:
    """Make a zarr store of an embedding that lies beside it already; it takes its name last, when it is whole."""
    beside = Path(f"{out}.unfinished")
    fields = {"fields": np.array([f"obsm/{obsm_key}"], dtype=object)}
    write_cells(beside, obs_names, {uns_key: done | fields})
    os.replace(beside, out)
    logger.info("wrote `obsm[%r]` to %s in %s", obsm_key, out, duration(done["seconds"]))


def _storable_columns(value: Any, name: str) -> Any:
    """A table whose columns can be kept in files, those of other names renamed and logged; all else as it is."""
    if not isinstance(value, pd.DataFrame):
        return value
    renamed = {column: as_key(column) for column in value.columns if as_key(column) != column}
    if not renamed:
        return value
    taken = [new for new in renamed.values() if new in set(value.columns)]
    if taken or len(set(renamed.values())) < len(renamed):
        raise ValueError(
            f"{name} cannot keep the columns {', '.join(map(repr, renamed))} apart in h5ad and zarr; rename them."
        )
    logger.warning(
        "%s: %s, since h5ad and zarr take '/' for a folder.",
        name,
        ", ".join(f"{a!r} is {b!r}" for a, b in renamed.items()),
    )
    return value.rename(columns=renamed)


def _extent(value: Any) -> str:
    """Its shape, or of categories their number."""
    if isinstance(value, pd.Categorical):
        return f"{len(value.categories)} categories"
    return " × ".join(f"{n:,}" for n in np.shape(value))


def clusters(proba_nk: np.ndarray, method: str, key_added: str | None) -> dict[Field, Any]:
    """The most probable cluster of each cell, and the probabilities (n, k)."""
    cluster_key, proba_key = cluster_keys(method, key_added)
    names = [str(k) for k in range(proba_nk.shape[1])]
    most_probable = pd.Categorical.from_codes(proba_nk.argmax(axis=1), names)
    return {("obs", cluster_key): most_probable, ("obsm", proba_key): proba_nk}


def destination(adata: AnnData, *, copy: bool) -> AnnData:
    """What a tool writes into: the cells, or a copy of them in memory."""
    if not copy:
        return adata
    return adata.to_memory() if adata.isbacked else adata.copy()
