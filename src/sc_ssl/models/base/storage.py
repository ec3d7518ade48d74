"""A model on disk: ``model.safetensors`` holds the tensors, ``model.json`` everything else. Loading runs no code."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

FORMAT = 1
TENSORS, CONFIG = "model.safetensors", "model.json"
#: folder with the checkpoints of a training that has not ended
UNFINISHED = "unfinished"


def write_model(folder: str | Path, config: dict[str, Any], tensors: Mapping[str, Tensor], *, overwrite: bool) -> None:
    """Write both files, the tensors last, so that a folder with tensors is complete; its training is finished then."""
    folder = Path(folder)
    if not overwrite:
        check_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TENSORS).unlink(missing_ok=True)
    beside = folder / f"{CONFIG}.tmp"
    beside.write_text(json.dumps({"format": FORMAT, **config}, default=_encode, indent=1))
    os.replace(beside, folder / CONFIG)
    # cloned: safetensors stores no tensor under two names, and a MaskSC and its teachers have the same patches
    beside = folder / f"{TENSORS}.tmp"
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, beside)
    os.replace(beside, folder / TENSORS)
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)


def add_to_config(folder: str | Path, **entries: Any) -> None:
    """Keep plain entries beside a saved model's own in ``model.json``."""
    path = Path(folder) / CONFIG
    beside = path.with_suffix(".json.tmp")
    beside.write_text(json.dumps(json.loads(path.read_text()) | entries, indent=1))
    os.replace(beside, path)


def has_unfinished(folder: str | Path) -> bool:
    """Whether checkpoints of a training that was interrupted are there, and no finished model."""
    return (Path(folder) / UNFINISHED).is_dir() and not has_model(folder)


def has_model(folder: str | Path) -> bool:
    """Whether a finished model is there."""
    return (Path(folder) / TENSORS).is_file()


def check_free(folder: str | Path) -> None:
    """Refuse to write over something else than the checkpoints of a training."""
    if Path(folder).exists() and not has_unfinished(folder):
        raise FileExistsError(f"{folder} exists already; choose another folder, or remove or overwrite it.")


def read_config(folder: str | Path) -> dict[str, Any]:
    """Read ``model.json``."""
    path = Path(folder) / CONFIG
    if has_unfinished(folder):
        raise FileNotFoundError(
            f"{folder} holds a training that was interrupted and no finished model; repeat the call that was interrupted: it "
            "goes on from there."
        )
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no saved model: {CONFIG} is missing; give a folder made by save().")
    try:
        config = json.loads(path.read_text(), object_hook=_decode)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; save the model again.") from error
    if config.get("format") != FORMAT:
        raise ValueError(f"{path} has format {config.get('format')}, this version reads {FORMAT}; update sc_ssl.")
    return config


def read_tensors(folder: str | Path) -> dict[str, Tensor]:
    """Read ``model.safetensors`` onto the CPU."""
    path = Path(folder) / TENSORS
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no complete model: {TENSORS} is missing; save the model again.")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}; save the model again.") from error


def to_history(curves: Mapping[str, Sequence[float]]) -> dict[str, pd.DataFrame]:
    """Loss curves as scvi-tools keeps them: name → data frame of one column, one row an epoch."""
    return {
        name: pd.DataFrame({name: values}, index=pd.RangeIndex(len(values), name="epoch"), dtype=float)
        for name, values in curves.items()
    }


def to_lists(history: Mapping[str, pd.DataFrame] | None) -> dict[str, list[float]]:
    """The same as lists."""
    return {name: frame[name].tolist() for name, frame in (history or {}).items()}


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        kind = "str" if value.dtype.kind in "OUS" else str(value.dtype)
        return {"__array__": value.tolist(), "dtype": kind}
    if isinstance(value, pd.DataFrame):
        return {"__frame__": {str(name): column.tolist() for name, column in value.items()}}
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a model's parameters are plain data, found {type(value).__name__}: {value!r}.")


def _decode(value: dict[str, Any]) -> Any:
    if "__array__" in value:
        return np.asarray(value["__array__"], dtype=object if value["dtype"] == "str" else value["dtype"])
    if "__frame__" in value:
        return pd.DataFrame(value["__frame__"])
    return value
