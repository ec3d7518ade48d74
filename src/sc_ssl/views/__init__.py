"""How a cell is shown to the encoder: dropout noise, masks, patches of genes. Torch only."""

from .augmentations import (
    Augmentation,
    Augmentations,
    BinomialThinning,
    GaussianNoise,
    GeneDropout,
    NegativeBinomialNoise,
    ProgramDropout,
)
from .gene_masks import GeneMask, GeneMasking, GenePrograms, OneProgram, ProgramToRegulator, RandomGenes
from .masks import TokenMask, random_mask
from .noise import (
    binomial_thinning,
    gaussian_noise,
    gaussian_noise_on_expressed,
    gene_dropout,
    gene_subset,
    negative_binomial_noise,
)
from .patches import interleaved, patch_layout, to_patches

__all__ = [
    "Augmentation",
    "Augmentations",
    "BinomialThinning",
    "GaussianNoise",
    "GeneDropout",
    "GeneMask",
    "GeneMasking",
    "GenePrograms",
    "NegativeBinomialNoise",
    "OneProgram",
    "ProgramDropout",
    "ProgramToRegulator",
    "RandomGenes",
    "TokenMask",
    "binomial_thinning",
    "gaussian_noise",
    "gaussian_noise_on_expressed",
    "gene_dropout",
    "gene_subset",
    "interleaved",
    "negative_binomial_noise",
    "patch_layout",
    "random_mask",
    "to_patches",
]
