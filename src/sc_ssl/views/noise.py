"""Noise that keeps a cell's identity."""

import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian_noise(x_ng: Tensor, sd: float) -> Tensor:
    """Add to each gene of each cell a normal deviate of this standard deviation.

    What the denoising autoencoders of scDeepCluster (Tian et al. 2019) and scziDesk (Chen et al. 2020) see.

    Parameters
    ----------
    x_ng
        Expression, (n, g), z-scored.
    sd
        In units of a gene's own standard deviation, ≥ 0.
    """
    if sd < 0:
        raise ValueError(f"sd is at least 0, found {sd}.")
    return x_ng + sd * torch.randn_like(x_ng) if sd else x_ng


def gene_dropout(x_ng: Tensor, rate: float) -> Tensor:
    """Hide each gene of each cell with probability ``rate`` and scale the others by ``1 / (1 - rate)``.

    The only augmentation of contrastive-sc (Ciortan & Defrance 2021, the input dropout of its encoder). On z-scored
    input a hidden gene takes its mean, 0.

    Parameters
    ----------
    x_ng
        Expression, (n, g), z-scored.
    rate
        Probability that a gene is hidden, in [0, 1).
    """
    if not 0 <= rate < 1:
        raise ValueError(f"rate is a probability in [0, 1), found {rate}.")
    return F.dropout(x_ng, rate, training=True)


def gene_subset(x_ng: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """Show the same random ``round(g · (1 − rate))`` genes of every cell, scaled by ``1 / (1 − rate)``.

    Gene dropout with one draw a minibatch: the first layer of an encoder then multiplies only the genes that are
    shown, ``1 / (1 − rate)`` times fewer.

    Returns
    -------
    The values shown (n, k), and the positions of their genes (k,).
    """
    if not 0 <= rate < 1:
        raise ValueError(f"rate is a probability in [0, 1), found {rate}.")
    n_genes = x_ng.shape[1]
    n_shown = max(round(n_genes * (1 - rate)), 1)
    genes_k = torch.randperm(n_genes, device=x_ng.device)[:n_shown]
    return x_ng.index_select(1, genes_k) * (n_genes / n_shown), genes_k
