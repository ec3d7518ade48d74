"""A model on disk: ``model.safetensors`` holds the tensors, ``model.json`` everything else. Loading runs no code."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

FORMAT = 1
VERSION = metadata.version("sc_ssl")
TENSORS, CONFIG = "model.safetensors", "model.json"
#: folder with the checkpoints of a training that has not ended
UNFINISHED = "unfinished"
#: what a description must have, by type; and what none exceeds
KINDS = {"class": str, "registry": dict, "init_params": dict, "training": dict, "is_trained": bool, "history": dict}
MAX_CONFIG_BYTES, MAX_SIZE = 2**30, 10**8


def write_model(folder: str | Path, config: dict[str, Any], tensors: Mapping[str, Tensor], *, overwrite: bool) -> None:
    """Write both files; a process that is killed meanwhile leaves the model that was there before, or the new one.

    Both are written beside their places first and bear the same id. The moment at which ``model.json`` is replaced decides:
    tensors that do not bear its id are an earlier model's, and the right ones lie beside them.
    """
    folder = Path(folder).expanduser()
    if not overwrite:
        check_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"format": FORMAT, "version": VERSION, **config}, default=_encode, indent=1)
    # contiguous copies: safetensors stores no tensor under two names, and a MaskSC and its teachers have the same patches
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    digest = hashlib.sha256(text.encode())
    for name in sorted(plain):
        digest.update(name.encode() + plain[name].flatten().view(torch.uint8).numpy().tobytes())
    own_id = digest.hexdigest()[:32]
    config_beside, tensors_beside = _beside(folder / CONFIG), _beside(folder / TENSORS)
    config_beside.write_text(json.dumps(json.loads(text) | {"id": own_id}, indent=1))
    save_file(plain, tensors_beside, metadata={"id": own_id})
    tensors_beside.chmod(config_beside.stat().st_mode)  # the user's, where safetensors lets nobody else read
    for beside in (config_beside, tensors_beside):
        _to_disk(beside)
    os.replace(config_beside, folder / CONFIG)
    os.replace(tensors_beside, folder / TENSORS)
    _to_disk(folder)
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)


def _beside(path: Path) -> Path:
    """Where a file is written before it takes its place; nothing is there, so that no link is followed."""
    beside = path.with_name(f"{path.name}.tmp")
    beside.unlink(missing_ok=True)
    return beside


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    beside = _beside(path)
    beside.write_text(text)
    _to_disk(beside)
    os.replace(beside, path)


def _to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk, where the system can."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def add_to_config(folder: str | Path, **entries: Any) -> None:
    """Keep plain entries beside a saved model's own in ``model.json``."""
    path = Path(folder).expanduser() / CONFIG
    _replace(path, json.dumps(json.loads(path.read_text()) | entries, indent=1))


def has_unfinished(folder: str | Path) -> bool:
    """Whether checkpoints of a training that was interrupted are there, and no finished model."""
    return (Path(folder).expanduser() / UNFINISHED).is_dir() and not has_model(folder)


def has_model(folder: str | Path) -> bool:
    """Whether a finished model is there."""
    folder = Path(folder).expanduser()
    return (folder / CONFIG).is_file() and any((folder / name).is_file() for name in (TENSORS, f"{TENSORS}.tmp"))


def check_free(folder: str | Path) -> None:
    """Refuse to write over something else than the checkpoints of a training."""
    if Path(folder).expanduser().exists() and not has_unfinished(folder):
        raise FileExistsError(f"{folder} exists already; choose another folder, or remove or overwrite it.")


def read_config(folder: str | Path) -> dict[str, Any]:
    """Read ``model.json``: plain data of the kinds that :func:`write_model` writes, and no code."""
    path = Path(folder).expanduser() / CONFIG
    if has_unfinished(folder):
        raise FileNotFoundError(
            f"{folder} holds a training that was interrupted and no finished model; repeat the call that was interrupted: it "
            "goes on from there."
        )
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no saved model: {CONFIG} is missing; give a folder made by save().")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ValueError(f"{path} is damaged: it has {path.stat().st_size} bytes; save the model again.")
    with damage_named(path):
        config = json.loads(path.read_text(), object_hook=_decode)
        if not isinstance(config, dict):
            raise ValueError("it holds no model's description")
        if config.get("format") == FORMAT:
            _check_config(config)
    if config.get("format") != FORMAT:
        raise ValueError(
            f"{path} has format {config.get('format')}, this version reads {FORMAT}; it was saved by sc_ssl "
            f"{config.get('version', 'of another version')}: update sc_ssl."
        )
    return config


def _check_config(config: dict[str, Any]) -> None:
    """An error unless all is there, of its type, and no size is beyond any model's."""
    for name, kind in KINDS.items():
        if not isinstance(config.get(name), kind):
            raise ValueError(f"{name!r} is missing or no {kind.__name__}")
    todo = [config["init_params"]]
    while todo:
        value = todo.pop()
        todo.extend(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
        if isinstance(value, int) and abs(value) > MAX_SIZE:
            raise ValueError(f"a size of {value} is that of no model")


@contextmanager
def damage_named(path: str | Path, version: str = "") -> Iterator[None]:
    """Whatever goes wrong with what a file holds is one error that names the file."""
    try:
        yield
    except Exception as error:
        said = str(error.args[0] if isinstance(error, KeyError) and error.args else error).splitlines() or [""]
        by = f" It was saved by version {version}; this is {VERSION}." if version not in ("", VERSION) else ""
        raise ValueError(
            f"{path} is damaged, or not of this version: {said[0]}; save the model again, or update sc_ssl.{by}"
        ) from error


def read_tensors(folder: str | Path, own_id: str | None = None) -> dict[str, Tensor]:
    """Read the tensors that belong to the ``model.json`` with this id onto the CPU; without one, those that are there."""
    path = Path(folder).expanduser() / TENSORS
    found = [file for file in (path, path.with_name(f"{path.name}.tmp")) if file.is_file()]
    if not found:
        raise FileNotFoundError(f"{folder} holds no complete model: {TENSORS} is missing; save the model again.")
    with damage_named(path):
        for file in found:
            # the second is that of a process that was killed: half a file, or the right one, as its id shows
            if own_id is None or _has_id(file, own_id):
                return load_file(file)
        raise ValueError(f"its id is not that of {CONFIG}")


def _has_id(file: Path, own_id: str) -> bool:
    try:
        with safe_open(file, framework="pt") as opened:
            return (opened.metadata() or {}).get("id") == own_id
    except SafetensorError:
        if file.name == TENSORS:
            raise
        return False


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
