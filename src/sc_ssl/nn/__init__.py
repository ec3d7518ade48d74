"""How a cell is encoded: normalisation, multilayer perceptrons, transformers. Torch only."""

from .likelihoods import CountDecoder, CountParameters
from .mlp import MLP
from .normalize import LogNormalize
from .transformer import RandomFeatures, Transformer

__all__ = [
    "MLP",
    "CountDecoder",
    "CountParameters",
    "LogNormalize",
    "RandomFeatures",
    "Transformer",
]
