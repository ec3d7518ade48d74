"""The methods, one file each. All are scvi-tools models."""

from pathlib import Path

from ._base import SSLModel
from ._clustering import ClusteringModel
from ._shipped import pretrained
from ._storage import check_free, has_unfinished, read_config
from ._training import TrainingDefaults, fit
from .barlow_twins import BarlowTwins
from .byol import BYOL
from .celllm import CellLM
from .classifier import CellClassifier
from .contrastive_sc import ContrastiveSC
from .drug_response import DrugResponse
from .masked_autoencoder import MaskedAutoencoder
from .masksc import MaskSC
from .regressor import ModalityRegressor
from .scdeepcluster import ScDeepCluster
from .scpretrain import ScPretrain
from .sczidesk import ScziDesk

__all__ = [
    "BYOL",
    "BarlowTwins",
    "CellClassifier",
    "CellLM",
    "ContrastiveSC",
    "DrugResponse",
    "MaskSC",
    "MaskedAutoencoder",
    "ModalityRegressor",
    "ScDeepCluster",
    "ScPretrain",
    "ScziDesk",
]


def load(folder: str | Path) -> SSLModel:
    """Load a saved model of any method; the class is looked up by its name among those of this package."""
    name = read_config(folder)["class"]
    if name not in __all__:
        raise ValueError(f"{folder} holds a {name!r}, which this version does not know; it has {', '.join(__all__)}.")
    return globals()[name].load(folder)
