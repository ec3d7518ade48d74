"""The methods: a file or a folder each. All are scvi-tools models."""

from pathlib import Path

from .barlow_twins import BarlowTwins
from .base import SSLModel, TrainingDefaults, class_named, read_config
from .byol import BYOL
from .celllm import CellLM
from .clustering import ScDeepCluster, ScziDesk
from .contrastive_sc import ContrastiveSC
from .masked_autoencoder import MaskedAutoencoder
from .masksc import MaskSC
from .scpretrain import ScPretrain, pretrained
from .simclr import SimCLR
from .supervised import CellClassifier, DrugResponse, ModalityRegressor
from .vicreg import VICReg

#: ``method=`` of :func:`sc_ssl.tl.embed` → class. A new method adds its import above and one line here.
METHODS: dict[str, type[SSLModel]] = {
    "masksc": MaskSC,
    "contrastive_sc": ContrastiveSC,
    "scpretrain": ScPretrain,
    "mae": MaskedAutoencoder,
    "byol": BYOL,
    "barlow_twins": BarlowTwins,
    "vicreg": VICReg,
    "simclr": SimCLR,
    "celllm": CellLM,
    "scdeepcluster": ScDeepCluster,
    "sczidesk": ScziDesk,
}

for _name, _class in METHODS.items():
    _class.method = _name

__all__ = [*(method.__name__ for method in METHODS.values()), "CellClassifier", "DrugResponse", "ModalityRegressor"]


def load(folder: str | Path) -> SSLModel:
    """Load a saved model of any method; the class is looked up by its name among those of this package.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> sc_ssl.tl.embed(adata, "contrastive_sc", save_model="blood")
    >>> model = sc_ssl.models.load("blood")
    >>> model.get_latent_representation(adata).shape
    (700, 64)
    """
    return class_named(read_config(folder)["class"]).load(folder)
