"""mask-sc: masked modelling of gene-expression matrices."""

from .model import MaskSC

__all__ = ["MaskSC"]
