"""The folder that a tool saves its model to, from where a call that was interrupted goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sc_ssl._logging import logger
from sc_ssl.models import SSLModel, check_free, has_unfinished

from ._record import storable

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData


def goes_on(folder: str | Path | None, *, trains: bool = True) -> bool:
    """Whether a training that was interrupted is there, to be finished; an error when anything else is."""
    if folder is None:
        return False
    if trains and has_unfinished(folder):
        return True
    check_free(folder)
    return False


def train(model: SSLModel, folder: str | Path | None, **options: Any) -> None:
    """Train; of an interrupted training nothing is lost when there is a folder for it."""
    try:
        model.train(**options)
    except KeyboardInterrupt:
        if folder is not None:
            model.save(folder, overwrite=True)
            logger.warning("The unfinished model is in %s; the same call goes on from there.", folder)
        else:
            logger.warning("The unfinished model is not kept; with save_model=FOLDER the same call would go on.")
        raise


def load_unfinished(
    model_class: type[SSLModel], folder: str | Path, cells: AnnData, model_kwargs: dict[str, Any]
) -> SSLModel:
    """The model whose training was interrupted, when it is the one that is asked for."""
    model = model_class.load(folder, accelerator="cpu")
    theirs = model.plain_init_params()
    other = [name for name, value in model_kwargs.items() if storable(theirs.get(name)) != storable(value)]
    if model.var_names != list(cells.var_names):
        other.append("the genes")
    if other:
        raise ValueError(
            f"{folder} holds an unfinished training that differs in {', '.join(other)}; repeat the call that was "
            "interrupted to finish it, or take another folder."
        )
    return model_class.load(folder, cells, accelerator="cpu")
