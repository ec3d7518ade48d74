"""How a cell is shown to an encoder: noise, augmentations, masks of genes. Torch only."""

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
from .noise import (
    binomial_thinning,
    gaussian_noise,
    gaussian_noise_on_expressed,
    gene_dropout,
    gene_subset,
    negative_binomial_noise,
)

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
    "binomial_thinning",
    "gaussian_noise",
    "gaussian_noise_on_expressed",
    "gene_dropout",
    "gene_subset",
    "negative_binomial_noise",
]
