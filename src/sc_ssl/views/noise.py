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


def binomial_thinning(x_ng: Tensor, keep_n1: Tensor) -> Tensor:
    """Keep each molecule of a cell with this probability: the cell as a shallower sequencing would have seen it.

    Parameters
    ----------
    x_ng
        Raw counts, (n, g).
    keep_n1
        Probability for each cell, (n, 1), in (0, 1].
    """
    # most entries are 0 and stay so: only the m others are drawn
    cell_m, gene_m = x_ng.nonzero(as_tuple=True)
    thinned_ng = torch.zeros_like(x_ng)
    thinned_ng[cell_m, gene_m] = torch.binomial(x_ng[cell_m, gene_m], keep_n1.flatten()[cell_m])
    return thinned_ng


def negative_binomial_noise(x_ng: Tensor, dispersion: float) -> Tensor:
    """Draw each count again from a negative binomial around itself, variance ``x + x² / θ``; a zero stays a zero.

    Richter et al. add noise of one level to every gene, expressed or not, which makes nine entries in ten positive.

    Parameters
    ----------
    x_ng
        Raw counts, (n, g).
    dispersion
        θ, > 0; the smaller, the noisier.
    """
    cell_m, gene_m = x_ng.nonzero(as_tuple=True)
    count_m = x_ng[cell_m, gene_m]
    # a negative binomial is a Poisson whose rate is gamma-distributed, mean x and shape θ
    rate_m = torch.distributions.Gamma(torch.full_like(count_m, dispersion), dispersion / count_m).sample()
    noisy_ng = torch.zeros_like(x_ng)
    noisy_ng[cell_m, gene_m] = torch.poisson(rate_m)
    return noisy_ng


def gaussian_noise_on_expressed(log_ng: Tensor, sd: float) -> Tensor:
    """Add a normal deviate to the log-expression of each gene that a cell expresses; none falls below 0.

    Parameters
    ----------
    log_ng
        Log-normalised expression, (n, g), ≥ 0.
    sd
        Standard deviation, ≥ 0, in units of log-expression.
    """
    return torch.where(log_ng > 0, gaussian_noise(log_ng, sd).clamp(min=0), log_ng)
