"""Negative log-likelihoods of counts: means over cells and genes, or sums weighed by entry."""

import torch
import torch.nn.functional as F
from torch import Tensor


def poisson_nll(x_ng: Tensor, mean_ng: Tensor, weight_ng: Tensor | None = None) -> Tensor:
    """Mean over cells and genes of ``−log Poisson(x | μ)``, or the weighted sum; arguments as in :func:`nb_nll`."""
    counted = x_ng.flatten().nonzero().squeeze(1)
    x, mean = x_ng.flatten()[counted], mean_ng.flatten()[counted]
    return _negative_sum(-mean_ng, x * mean.log() - torch.lgamma(x + 1), counted, weight_ng)


def nb_nll(x_ng: Tensor, mean_ng: Tensor, dispersion: Tensor, weight_ng: Tensor | None = None) -> Tensor:
    """Mean over cells and genes of ``−log NB(x | μ, θ)``, variance ``μ + μ² / θ``; or the weighted sum.

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
    weight_ng
        Weight of each entry, (n, g); the weighted sum is then returned.
    """
    counted = x_ng.flatten().nonzero().squeeze(1)
    gain = _log_nb_gain(x_ng, mean_ng, dispersion, counted)
    return _negative_sum(_log_nb_at_zero(mean_ng, dispersion), gain, counted, weight_ng)


def zinb_nll(
    x_ng: Tensor, mean_ng: Tensor, dispersion: Tensor, zero_logits_ng: Tensor, weight_ng: Tensor | None = None
) -> Tensor:
    """Mean over cells and genes of ``−log(π [x = 0] + (1 − π) NB(x | μ, θ))`` (Tian et al. 2019); or the weighted sum.

    The same number as ``scvi.distributions.ZeroInflatedNegativeBinomial``, with the gamma functions as in
    :func:`nb_nll`. The authors' code adds 1e-10 inside each logarithm; here all is computed on the log scale.

    Parameters
    ----------
    x_ng, mean_ng, dispersion, weight_ng
        As in :func:`nb_nll`.
    zero_logits_ng
        Logits of the probability π that a count was lost, (n, g).
    """
    # log π + softplus(a) = log(π + (1 − π) NB(0)) and log π + a = log((1 − π) NB(0)), with log π = −softplus(−logits)
    a_ng = _log_nb_at_zero(mean_ng, dispersion) - zero_logits_ng
    counted = x_ng.flatten().nonzero().squeeze(1)
    gain = _log_nb_gain(x_ng, mean_ng, dispersion, counted) - F.softplus(-a_ng.flatten()[counted])
    return _negative_sum(F.softplus(a_ng) - F.softplus(-zero_logits_ng), gain, counted, weight_ng)


def count_nll(
    x_ng: Tensor,
    mean_ng: Tensor,
    dispersion: Tensor | None,
    zero_logits_ng: Tensor | None,
    weight_ng: Tensor | None = None,
) -> Tensor:
    """The negative log-likelihood of counts under these parameters: zero-inflated with π, Poisson without θ."""
    if zero_logits_ng is not None and dispersion is not None:
        return zinb_nll(x_ng, mean_ng, dispersion, zero_logits_ng, weight_ng)
    if dispersion is not None:
        return nb_nll(x_ng, mean_ng, dispersion, weight_ng)
    return poisson_nll(x_ng, mean_ng, weight_ng)


def _negative_sum(at_zero_ng: Tensor, gain_m: Tensor, counted_m: Tensor, weight_ng: Tensor | None) -> Tensor:
    """Minus the mean, or the weighted sum, of the log-likelihoods: those of zeros, and more or less where x > 0."""
    if weight_ng is None:
        return -(at_zero_ng.sum() + gain_m.sum()) / at_zero_ng.numel()
    return -((at_zero_ng * weight_ng).sum() + (gain_m * weight_ng.flatten()[counted_m]).sum())


def _log_nb_at_zero(mean_ng: Tensor, dispersion: Tensor) -> Tensor:
    return -dispersion * torch.log1p(mean_ng / dispersion)


def _log_nb_gain(x_ng: Tensor, mean_ng: Tensor, dispersion: Tensor, counted: Tensor) -> Tensor:
    """``log NB(x) − log NB(0)`` at these positions of the flattened matrix, where x > 0."""
    x, mean = x_ng.flatten()[counted], mean_ng.flatten()[counted]
    theta = dispersion[counted % len(dispersion)] if dispersion.ndim == 1 else dispersion.flatten()[counted]
    binomial = torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1)
    return binomial + x * (mean.log() - (theta + mean).log())
