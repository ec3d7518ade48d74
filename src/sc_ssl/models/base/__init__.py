"""What every model does: it registers cells, trains, embeds, is saved and loaded."""

from .fit import Phase, TrainingDefaults
from .model import INFERENCE_BATCH_SIZE, SSLModel, class_named, rebuilt, restored
from .module import ContrastModule, SSLModule
from .options import check_training
from .storage import (
    UNFINISHED,
    add_to_config,
    check_free,
    has_model,
    has_unfinished,
    read_config,
    read_tensors,
    write_model,
)

__all__ = [
    "UNFINISHED",
    "INFERENCE_BATCH_SIZE",
    "ContrastModule",
    "Phase",
    "SSLModel",
    "SSLModule",
    "TrainingDefaults",
    "add_to_config",
    "check_free",
    "check_training",
    "class_named",
    "has_model",
    "has_unfinished",
    "read_config",
    "read_tensors",
    "rebuilt",
    "restored",
    "write_model",
]
