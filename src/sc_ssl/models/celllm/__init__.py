"""CellLM: a transformer on the genes that a cell expresses."""

from .model import CellLM

__all__ = ["CellLM"]
