"""How a cell is shown to the encoder: dropout noise, masks, patches of genes. Torch only."""

from .gene_masks import GeneMask, GeneMasking, GenePrograms, OneProgram, ProgramToRegulator, RandomGenes
from .masks import TokenMask, random_mask
from .noise import gaussian_noise, gene_dropout, gene_subset
from .patches import interleaved, patch_layout, to_patches

__all__ = [
    "GeneMask",
    "GeneMasking",
    "GenePrograms",
    "OneProgram",
    "ProgramToRegulator",
    "RandomGenes",
    "TokenMask",
    "gaussian_noise",
    "gene_dropout",
    "gene_subset",
    "interleaved",
    "patch_layout",
    "random_mask",
    "to_patches",
]
