"""The folder that a tool saves the model it trains to, from where the same call goes on when training was interrupted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sc_ssl._logging import logger
from sc_ssl.models import SSLModel
from sc_ssl.models.base import UNFINISHED, add_to_config, has_model, has_unfinished, read_config

from ._record import names_hash, storable

if TYPE_CHECKING:
    from collections.abc import Mapping


#: file with the arguments of the call
CALL = "call.json"
#: folder beside a finished model, for the checkpoints of the same call once more
AGAIN = "again"
#: of the arguments of ``train``, those that make it another training
TRAINING = ("batch_size", "micro_batch_size", "validation_size", "early_stopping", "plan_kwargs")


def describe_call(model_kwargs: Mapping[str, Any], random_state: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a call must repeat to be the same: the model's arguments, the seed where it is a number, and the training's."""
    call = dict(model_kwargs) | {name: options[name] for name in ("max_epochs", *TRAINING) if name in options}
    return storable(call | ({"random_state": random_state} if isinstance(random_state, int) else {}))


def check_folder(folder: str | Path | None, *, use: str, trains: bool = True) -> None:
    """An error when anything but an interrupted training, or the model of an earlier call, is there; only to train on."""
    if (
        folder is None
        or not Path(folder).expanduser().exists()
        or (trains and (has_unfinished(folder) or _of_a_call(folder)))
    ):
        return
    raise FileExistsError(_taken(folder, use))


def train(model: SSLModel, folder: str | Path | None, call: dict[str, Any], *, use: str, **options: Any) -> None:
    """Train with checkpoints in the folder, from those of the same call on when it was interrupted; then save.

    The model of the same call is replaced, once the new one is trained; ``use`` is the argument that takes it as it is.
    """
    if folder is None:
        try:
            model.train(**options)
        except KeyboardInterrupt:
            logger.warning("Nothing of the training is kept; with a folder (save_model) the same call would go on.")
            raise
        return
    folder = Path(folder).expanduser()
    genes = names_hash(model.var_names)
    call = call | {"the method": type(model).__name__, "the genes": genes, "the cells": model.n_cells}
    if _of_a_call(folder) and _differing(read_config(folder)["call"], call):
        raise FileExistsError(_taken(folder, use))
    checkpoints = folder / AGAIN if has_model(folder) else folder
    _check_same(checkpoints / UNFINISHED, call)
    try:
        model.train(**options, checkpoint_dir=checkpoints)
    except BaseException as error:
        if not _has_checkpoints(checkpoints / UNFINISHED):  # nothing to go on from
            _remove(checkpoints)
        elif isinstance(error, KeyboardInterrupt):
            logger.warning("Checkpoints of the training are in %s; the same call goes on from them.", folder)
        raise
    model.save(folder, overwrite=True)
    add_to_config(folder, call=_plain(call))
    shutil.rmtree(folder / AGAIN, ignore_errors=True)


def _taken(folder: str | Path, use: str) -> str:
    return f"{folder} exists already; if a model is in it, {use}={str(folder)!r} takes it as it is; or choose another folder."


def _of_a_call(folder: str | Path) -> bool:
    """Whether a finished model is there that a tool has trained and saved."""
    return has_model(folder) and "call" in read_config(folder)


def _differing(theirs: Mapping[str, Any], call: Mapping[str, Any]) -> list[str]:
    """What differs between the call that is noted in a folder and this one."""
    ours = _plain(call)
    return [name for name in sorted(ours.keys() | theirs.keys()) if ours.get(name) != theirs.get(name)]


def _plain(call: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(call, default=str))
    return plain


def _check_same(unfinished: Path, call: dict[str, Any]) -> None:
    """Note the call beside its checkpoints; an error when those there are of another call."""
    if _has_checkpoints(unfinished) and (unfinished / CALL).is_file():
        other = _differing(json.loads((unfinished / CALL).read_text()), call)
        if other:
            raise ValueError(
                f"{unfinished.parent} holds an unfinished training that differs in {', '.join(other)}; repeat the call that "
                "was interrupted to finish it, or take another folder."
            )
    unfinished.mkdir(parents=True, exist_ok=True)
    (unfinished / CALL).write_text(json.dumps(_plain(call)))


def _has_checkpoints(unfinished: Path) -> bool:
    return any(unfinished.glob("*.ckpt"))


def _remove(checkpoints: Path) -> None:
    """Remove the folder for checkpoints, and the one around it where nothing else is in it."""
    shutil.rmtree(checkpoints / UNFINISHED)
    if not any(checkpoints.iterdir()):
        checkpoints.rmdir()
