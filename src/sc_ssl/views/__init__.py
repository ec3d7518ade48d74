"""How a cell is shown to the encoder: dropout noise, masks, patches of genes, tokens. Torch only."""

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
from .tokens import (
    Tokens,
    drop_tokens,
    expressed_genes,
    keep_tokens,
    log2_bins,
    most_expressed,
    quantile_bins,
    random_genes,
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
    "TokenMask",
    "Tokens",
    "binomial_thinning",
    "drop_tokens",
    "expressed_genes",
    "gaussian_noise",
    "gaussian_noise_on_expressed",
    "gene_dropout",
    "gene_subset",
    "interleaved",
    "keep_tokens",
    "log2_bins",
    "most_expressed",
    "negative_binomial_noise",
    "patch_layout",
    "quantile_bins",
    "random_genes",
    "random_mask",
    "to_patches",
]
