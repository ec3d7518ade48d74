"""scPretrain: an encoder that learns from clusters of many data sets, and the one that comes with the package."""

from .model import ScPretrain
from .pretrained import pretrained

__all__ = ["ScPretrain", "pretrained"]
