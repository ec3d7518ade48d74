"""How a cell is shown to the encoder: dropout noise, masks, patches of genes. Torch only."""

from .masks import TokenMask, random_mask
from .noise import gene_dropout
from .patches import patch_layout, to_patches

__all__ = ["TokenMask", "gene_dropout", "patch_layout", "random_mask", "to_patches"]
