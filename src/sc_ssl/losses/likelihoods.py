"""Negative log-likelihoods of counts."""

import torch
import torch.nn.functional as F
from torch import Tensor


def nb_nll(x_ng: Tensor, mean_ng: Tensor, dispersion: Tensor) -> Tensor:
    """Mean over cells and genes of ``−log NB(x | μ, θ)``, variance ``μ + μ² / θ``.

    The same number as ``scvi.distributions.NegativeBinomial``. Nine counts in ten are 0, where
    ``log NB(0) = −θ log(1 + μ / θ)``; the gamma functions are computed only where there is a count.

    Parameters
    ----------
    x_ng
        Counts, (n, g).
    mean_ng
        Expected counts μ, (n, g), > 0.
    dispersion
        θ, > 0, of each gene (g,) or of each entry (n, g).
    """
    at_zero = _log_nb_at_zero(mean_ng, dispersion)
    counted = x_ng.flatten().nonzero().squeeze(1)
    return -(at_zero.sum() + _log_nb_gain(x_ng, mean_ng, dispersion, counted).sum()) / x_ng.numel()


def zinb_nll(x_ng: Tensor, mean_ng: Tensor, dispersion: Tensor, zero_logits_ng: Tensor) -> Tensor:
    """Mean over cells and genes of ``−log(π [x = 0] + (1 − π) NB(x | μ, θ))`` (Tian et al. 2019).

    The same number as ``scvi.distributions.ZeroInflatedNegativeBinomial``, with the gamma functions as in
    :func:`nb_nll`. The authors' code adds 1e-10 inside each logarithm; here all is computed on the log scale.

    Parameters
    ----------
    x_ng, mean_ng, dispersion
        As in :func:`nb_nll`.
    zero_logits_ng
        Logits of the probability π that a count was lost, (n, g).
    """
    # log π + softplus(a) = log(π + (1 − π) NB(0)) and log π + a = log((1 − π) NB(0)), with log π = −softplus(−logits)
    a_ng = _log_nb_at_zero(mean_ng, dispersion) - zero_logits_ng
    counted = x_ng.flatten().nonzero().squeeze(1)
    log_likelihood = F.softplus(a_ng).sum() - F.softplus(-zero_logits_ng).sum()
    log_likelihood = log_likelihood - F.softplus(-a_ng.flatten()[counted]).sum()
    return -(log_likelihood + _log_nb_gain(x_ng, mean_ng, dispersion, counted).sum()) / x_ng.numel()


def _log_nb_at_zero(mean_ng: Tensor, dispersion: Tensor) -> Tensor:
    return -dispersion * torch.log1p(mean_ng / dispersion)


def _log_nb_gain(x_ng: Tensor, mean_ng: Tensor, dispersion: Tensor, counted: Tensor) -> Tensor:
    """``log NB(x) − log NB(0)`` at these positions of the flattened matrix, where x > 0."""
    x, mean = x_ng.flatten()[counted], mean_ng.flatten()[counted]
    theta = dispersion[counted % len(dispersion)] if dispersion.ndim == 1 else dispersion.flatten()[counted]
    binomial = torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1)
    return binomial + x * (mean.log() - (theta + mean).log())
