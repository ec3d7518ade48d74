"""How a prediction is scored: pure functions of tensors. Torch only."""

from .contrastive import nt_xent
from .reconstruction import squared_error

__all__ = ["nt_xent", "squared_error"]
