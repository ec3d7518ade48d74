"""Results that do not fit in memory either: they are written to disk a chunk at a time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import zarr

#: rows that are written at once, a chunk of the array on disk
ROWS = 2**14


def check_writable(path: str | Path) -> Path:
    """The path of a store that is to be made; an error when something is there, or the folder above takes no files."""
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"out={str(path)!r} exists already; remove it, or take another name.")
    folder = path.absolute().parent
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise PermissionError(f"out={str(path)!r} cannot be written: {folder} is no folder that takes files.")
    return path


def write_rows(parts: Iterable[np.ndarray], n: int, out: str | Path | Any) -> Any:
    """Write rows one part after the other, and hand back the array that holds them.

    Parameters
    ----------
    parts
        (…, d) float32.
    n
        Rows in all.
    out
        Path of a zarr array that is made, whole or not at all; or an array (n, d) that can be written to, of h5py, zarr
        or NumPy.
    """
    if not isinstance(out, str | Path):
        _fill(out, parts)
        return out
    path, beside = Path(out), Path(f"{out}.unfinished")
    shutil.rmtree(beside, ignore_errors=True)
    parts = iter(parts)
    first = next(parts)
    options: dict[str, Any] = {
        "shape": (n, first.shape[1]),
        "chunks": (min(n, ROWS), first.shape[1]),
        "dtype": "float32",
    }
    options |= {"attributes": {"encoding-type": "array", "encoding-version": "0.2.0"}}
    array = zarr.create_array(beside, **options, zarr_format=ad.settings.zarr_write_format)
    try:
        _fill(array, _chained(first, parts))
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    os.replace(beside, path)
    return zarr.open_array(path, mode="r")


def write_cells(folder: Path, obs_names: pd.Index, uns: dict[str, Any]) -> None:
    """Make a zarr store, in which ``obsm`` lies already, an AnnData of these cells that anndata reads."""
    group = zarr.open_group(folder, mode="a", zarr_format=ad.settings.zarr_write_format)
    ad.io.write_elem(group, "obs", pd.DataFrame(index=obs_names.astype(str)))
    ad.io.write_elem(group, "var", pd.DataFrame(index=pd.Index([], dtype=str)))
    ad.io.write_elem(group, "uns", uns)
    for name in ("layers", "varm", "obsp", "varp"):
        ad.io.write_elem(group, name, {})
    group.require_group("obsm").attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
    group.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})


def _fill(array: Any, parts: Iterable[np.ndarray]) -> None:
    """Write parts into an array in chunks of its own size: each chunk on disk is written once."""
    start, waiting = 0, []
    for part in parts:
        waiting.append(part)
        if sum(map(len, waiting)) >= ROWS:
            rows = np.concatenate(waiting)
            array[start : start + ROWS] = rows[:ROWS]
            start, waiting = start + ROWS, [rows[ROWS:]]
    rows = np.concatenate(waiting)
    array[start : start + len(rows)] = rows


def _chained(first: np.ndarray, rest: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from rest
