"""What every model does: it registers cells, trains, embeds, is saved and loaded."""

from .checkpoint import Unfinished
from .fit import TrainingDefaults, check_options, fit
from .model import INFERENCE_BATCH_SIZE, SSLModel, class_named, positions, rebuilt, restored
from .module import ContrastModule, SSLModule
from .storage import check_free, has_unfinished, read_config, read_tensors, write_model

__all__ = [
    "INFERENCE_BATCH_SIZE",
    "ContrastModule",
    "SSLModel",
    "SSLModule",
    "TrainingDefaults",
    "Unfinished",
    "check_free",
    "check_options",
    "class_named",
    "fit",
    "has_unfinished",
    "positions",
    "read_config",
    "read_tensors",
    "rebuilt",
    "restored",
    "write_model",
]
