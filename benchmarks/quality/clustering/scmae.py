"""scMAE-style masking, a baseline: genes swapped between cells, which were swapped and what stood there predicted.

Fang et al., scMAE: a masked autoencoder for single-cell RNA-seq clustering, Bioinformatics 40 (2024), btae020. No
transformer and no matrix of patches: what masking alone is worth. The settings are the authors'.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

SWAP_RATE = 0.4
#: of the squared error in the loss, the rest is the mask's; and of a swapped gene's error, the rest is a kept gene's
RECONSTRUCTION_WEIGHT, SWAPPED_WEIGHT = 0.3, 0.75
N_EPOCHS, BATCH_SIZE, LR = 80, 256, 1e-3


class ScMAE(nn.Module):
    """An encoder of z-scored genes, a head that detects swapped genes, and a decoder of both."""

    def __init__(self, n_genes: int, *, n_hidden: int = 256, n_latent: int = 128) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(n_genes, n_hidden),
            nn.LayerNorm(n_hidden),
            nn.Mish(),
            nn.Linear(n_hidden, n_latent),
            nn.LayerNorm(n_latent),
            nn.Mish(),
            nn.Linear(n_latent, n_latent),
        )
        self.detect_swapped = nn.Linear(n_latent, n_genes)
        self.decoder = nn.Linear(n_latent + n_genes, n_genes)

    def loss(self, x_ng: Tensor) -> Tensor:
        """Weighted squared error of all genes, and cross-entropy of which were swapped."""
        shown_ng, swapped_ng = swap(x_ng)
        z_nd = self.encoder(shown_ng)
        logit_ng = self.detect_swapped(z_nd)
        error_ng = (self.decoder(torch.cat([z_nd, logit_ng], dim=1)) - x_ng).square()
        weight_ng = torch.where(swapped_ng, SWAPPED_WEIGHT, 1 - SWAPPED_WEIGHT)
        detection = F.binary_cross_entropy_with_logits(logit_ng, swapped_ng.to(x_ng.dtype))
        return RECONSTRUCTION_WEIGHT * (weight_ng * error_ng).mean() + (1 - RECONSTRUCTION_WEIGHT) * detection


def swap(x_ng: Tensor) -> tuple[Tensor, Tensor]:
    """Genes drawn with a rate of 0.4 take another cell's value; also which values changed by that."""
    other_ng = x_ng[torch.randperm(len(x_ng))]
    shown_ng = torch.where(torch.rand_like(x_ng) < SWAP_RATE, other_ng, x_ng)
    return shown_ng, shown_ng != x_ng


def train(x_ng: np.ndarray) -> np.ndarray:
    """The embedding of z-scored cells, from torch's random state."""
    x = torch.as_tensor(x_ng, dtype=torch.float32)
    model = ScMAE(x.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    for _ in range(N_EPOCHS):
        for index in torch.randperm(len(x)).split(BATCH_SIZE):
            optimizer.zero_grad()
            model.loss(x[index]).backward()
            optimizer.step()
    with torch.no_grad():
        return model.encoder(x).numpy()
