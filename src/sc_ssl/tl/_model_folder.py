"""The folder that a tool saves the model it trains to, from where the same call goes on when training was interrupted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sc_ssl._logging import logger
from sc_ssl.models import SSLModel
from sc_ssl.models.base import UNFINISHED, has_unfinished

from ._record import names_hash, storable

if TYPE_CHECKING:
    from collections.abc import Mapping


#: file with the arguments of the call
CALL = "call.json"
#: of the arguments of ``train``, those that make it another training
TRAINING = ("batch_size", "micro_batch_size", "validation_size", "early_stopping", "plan_kwargs")


def describe_call(model_kwargs: Mapping[str, Any], random_state: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a call must repeat to be the same: the model's arguments, the seed where it is a number, and the training's."""
    call = dict(model_kwargs) | {name: options[name] for name in ("max_epochs", *TRAINING) if name in options}
    return storable(call | ({"random_state": random_state} if isinstance(random_state, int) else {}))


def check_folder(folder: str | Path | None, *, use: str, trains: bool = True) -> None:
    """An error when anything but a training that was interrupted is there, which only a call that ``trains`` goes on with."""
    if folder is not None and Path(folder).exists() and not (trains and has_unfinished(folder)):
        raise FileExistsError(
            f"{folder} exists already; if a model is in it, {use}={str(folder)!r} takes it as it is; or choose another "
            "folder."
        )


def train(model: SSLModel, folder: str | Path | None, call: dict[str, Any], **options: Any) -> None:
    """Train with checkpoints in the folder, from those of the same call on when it was interrupted; then save."""
    if folder is None:
        try:
            model.train(**options)
        except KeyboardInterrupt:
            logger.warning("Nothing of the training is kept; with a folder (save_model) the same call would go on.")
            raise
        return
    unfinished = Path(folder) / UNFINISHED
    genes = names_hash(model.var_names)
    cells = {"the method": type(model).__name__, "the genes": genes, "the cells": model.n_cells}
    _check_same(unfinished, call | cells)
    try:
        model.train(**options, checkpoint_dir=folder)
    except BaseException as error:
        if not _has_checkpoints(unfinished):  # nothing to go on from
            shutil.rmtree(unfinished)
            if not any(Path(folder).iterdir()):
                Path(folder).rmdir()
        elif isinstance(error, KeyboardInterrupt):
            logger.warning("Checkpoints of the training are in %s; the same call goes on from them.", folder)
        raise
    model.save(folder)


def _check_same(unfinished: Path, call: dict[str, Any]) -> None:
    """Note the call beside its checkpoints; an error when those there are of another call."""
    path, ours = unfinished / CALL, json.loads(json.dumps(call, default=str))
    if _has_checkpoints(unfinished) and path.is_file():
        theirs = json.loads(path.read_text())
        other = [name for name in sorted(ours.keys() | theirs.keys()) if ours.get(name) != theirs.get(name)]
        if other:
            raise ValueError(
                f"{unfinished.parent} holds an unfinished training that differs in {', '.join(other)}; repeat the call that "
                "was interrupted to finish it, or take another folder."
            )
    unfinished.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(ours))


def _has_checkpoints(unfinished: Path) -> bool:
    return any(unfinished.glob("*.ckpt"))
