"""Supervised models on a pretrained encoder: cell types, other modalities, drug response."""

from .classifier import CellClassifier
from .drug_response import DrugResponse
from .modality import ModalityRegressor

__all__ = ["CellClassifier", "DrugResponse", "ModalityRegressor"]
