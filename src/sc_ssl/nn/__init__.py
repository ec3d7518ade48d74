"""How a cell is encoded: normalisation, multilayer perceptrons, transformers. Torch only."""

from .bottleneck_decoder import BottleneckDecoder
from .ema import MovingAverage
from .gene_table import GeneTable
from .likelihoods import CountDecoder, CountParameters
from .mae_decoder import MaskedDecoder
from .mlp import MLP
from .molecule_gin import MoleculeGIN
from .normalize import LogNormalize
from .patch_embed import ConvPatchEmbed, LocalPatchEmbed
from .performer import RandomFeatures
from .transformer import Transformer
from .value_embedding import ValueEmbedding, Values

__all__ = [
    "MLP",
    "BottleneckDecoder",
    "ConvPatchEmbed",
    "CountDecoder",
    "CountParameters",
    "GeneTable",
    "LocalPatchEmbed",
    "LogNormalize",
    "MaskedDecoder",
    "MoleculeGIN",
    "MovingAverage",
    "RandomFeatures",
    "Transformer",
    "ValueEmbedding",
    "Values",
]
