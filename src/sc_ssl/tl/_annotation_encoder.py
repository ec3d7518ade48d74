"""The encoder for annotation: a given one, or one that is trained on both data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sc_ssl import _compat, models
from sc_ssl._keys import DATASET, SPECIES
from sc_ssl._logging import logger
from sc_ssl.models import METHODS, SSLModel

from ._cells import registered
from ._model_folder import check_folder, train

if TYPE_CHECKING:
    from sc_ssl.data import Kind, LightAnnData

#: batches of an encoder that is trained on both data sets
BOTH = ("reference", "query")
#: it takes hundreds of genes to distinguish types
FEW_GENES = 200


def to_train(model: Any, method: str) -> str | None:
    """Name of the method whose encoder is trained here; ``None`` where a model is given."""
    if model is None:
        return "mae" if method == "supervised" else "scpretrain"
    if isinstance(model, str) and model in METHODS:
        return model
    if method == "supervised":
        raise ValueError(
            f"method='supervised' trains a network from scratch; model= names it, one of {', '.join(map(repr, METHODS))}."
        )
    if isinstance(model, str) and not Path(model).expanduser().exists():
        raise ValueError(
            f"model is a trained model, the folder of a saved one, or one of {', '.join(map(repr, METHODS))}; found {model!r}."
        )
    return None


def given_encoder(model: SSLModel | str | Path, input: Kind) -> SSLModel:
    """A trained model, or the one in a folder, of the same input as the cells."""
    encoder = model if isinstance(model, SSLModel) else models.load(model)
    trained_on = encoder.setup_arguments["input"]
    if trained_on != input:
        raise ValueError(
            f"the encoder was trained on input={trained_on!r}, and the cells are read with input={input!r}; pass "
            f"input={trained_on!r} where both data sets hold that, or another encoder."
        )
    return encoder


def knows_both(encoder: SSLModel) -> bool:
    """Whether it was trained on both data sets as its batches."""
    registry = encoder.registry_
    of_both = _compat.setup_arguments(registry)["batch_key"] == DATASET
    return of_both and set(_compat.registered_batches(registry)) == set(BOTH)


def train_encoder(
    name: str,
    cells: LightAnnData,
    save_model: str | Path | None,
    call: dict[str, Any],
    options: dict[str, Any],
    *,
    pretrain: bool,
) -> SSLModel:
    """A model of the cells of both data sets, which are its batches, trained or not."""
    check_folder(save_model, use="model")
    model_class = METHODS[name]
    log = logger.warning if cells.n_vars < FEW_GENES else logger.info
    log("Training %s on %d genes of both data sets.", "an encoder" if pretrain else "from scratch", cells.n_vars)
    with registered(model_class, cells, cells.checked().kind, DATASET):
        species = {"species": cells.uns.get(SPECIES)} if name == "scpretrain" else {}
        encoder = model_class(cells, **species)
        if not pretrain:
            encoder.is_trained_ = True  # as it was asked for
            return encoder
        train(encoder, save_model, call, use="model", **options)
    if save_model is not None:
        logger.info("The encoder is in %s; with it as model= it is not trained again.", save_model)
    return encoder
