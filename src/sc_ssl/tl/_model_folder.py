"""The folder that a tool saves the model it trains to, from where the same call goes on when training was interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sc_ssl._logging import logger
from sc_ssl.models.base import SSLModel, has_unfinished

from ._record import storable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

#: what the interrupted call asked for
CALL = "call.json"
#: of the arguments of ``train``, those that make it another training
TRAINING = ("batch_size", "micro_batch_size", "validation_size", "early_stopping", "plan_kwargs")


def describe_call(model_kwargs: Mapping[str, Any], random_state: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a call must repeat to be the same: the model's arguments, the seed where it is a number, and the training's."""
    call = dict(model_kwargs) | {name: options[name] for name in ("max_epochs", *TRAINING) if name in options}
    return storable(call | ({"random_state": random_state} if isinstance(random_state, int) else {}))


def goes_on(folder: str | Path | None, *, use: str, trains: bool = True) -> bool:
    """Whether a training that was interrupted is there, to be finished; an error when anything else is."""
    if folder is None or not Path(folder).exists():
        return False
    if trains and has_unfinished(folder):
        return True
    raise FileExistsError(
        f"{folder} exists already; if a model is in it, {use}={str(folder)!r} takes it as it is; or choose another folder."
    )


def train(model: SSLModel, folder: str | Path | None, call: dict[str, Any], **options: Any) -> None:
    """Train; when that is interrupted, what there is to go on from is saved."""
    try:
        model.train(**options)
    except KeyboardInterrupt:
        if folder is None:
            logger.warning("The unfinished model is not kept; with a folder (save_model) the same call would go on.")
        elif model.unfinished is not None:
            model.save(folder, overwrite=True)
            (Path(folder) / CALL).write_text(json.dumps(call, default=str))
            logger.warning("The unfinished model is in %s; the same call goes on from there.", folder)
        raise


def load_unfinished(model_class: type[SSLModel], folder: str | Path, cells: AnnData, call: dict[str, Any]) -> SSLModel:
    """The model whose training was interrupted, when it is the one that is asked for."""
    model = model_class.load(folder, accelerator="cpu")
    path = Path(folder) / CALL
    theirs = json.loads(path.read_text()) if path.exists() else call  # a model that was saved by hand
    ours = json.loads(json.dumps(call, default=str))
    other = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if model.var_names != list(cells.var_names):
        other.append("the genes")
    if json.loads(model.unfinished.asked)["n_cells"] != cells.n_obs:
        other.append("the cells")
    if other:
        raise ValueError(
            f"{folder} holds an unfinished training that differs in {', '.join(other)}; repeat the call that was "
            "interrupted to finish it, or take another folder."
        )
    return model_class.load(folder, cells, accelerator="cpu")


def save(model: SSLModel, folder: str | Path, *, overwrite: bool) -> None:
    """Save a model that is finished."""
    model.save(folder, overwrite=overwrite)
    (Path(folder) / CALL).unlink(missing_ok=True)
