"""Losses of two views of the same cells that need no other cells as negatives."""

import torch
import torch.nn.functional as F
from torch import Tensor


def negative_cosine(predicted_nd: Tensor, target_nd: Tensor) -> Tensor:
    """Minus the mean cosine of prediction and target (Chen & He 2021, equation 1); the target carries no gradient.

    BYOL's squared distance of unit vectors (Grill et al. 2020, equation 2) is ``2 + 2 ·`` this.

    Parameters
    ----------
    predicted_nd, target_nd
        (n, d), of any length; row i of both belongs to cell i.
    """
    return -F.cosine_similarity(predicted_nd, target_nd.detach(), dim=1).mean()


def barlow_twins(view_1_nd: Tensor, view_2_nd: Tensor, redundancy_weight: float = 5.1e-3) -> Tensor:
    """``Σ_i (1 − C_ii)² + λ Σ_{i≠j} C_ij²``, C the correlation of the two views over cells (Zbontar et al. 2021, eq. 1).

    Richter et al.'s code divides by the nominal size of a minibatch instead of the number of its cells.

    Parameters
    ----------
    view_1_nd, view_2_nd
        Projections of two views, (n, d), n ≥ 2.
    redundancy_weight
        λ, ≥ 0.
    """
    correlation_dd = _standardized(view_1_nd).T @ _standardized(view_2_nd) / len(view_1_nd)
    on_diagonal = (1 - correlation_dd.diagonal()).square().sum()
    off_diagonal = correlation_dd.square().sum() - correlation_dd.diagonal().square().sum()
    return on_diagonal + redundancy_weight * off_diagonal


def vicreg(
    view_1_nd: Tensor,
    view_2_nd: Tensor,
    *,
    invariance_weight: float = 25.0,
    variance_weight: float = 25.0,
    covariance_weight: float = 1.0,
) -> Tensor:
    """Invariance, variance and covariance of two views (Bardes et al. 2022, equations 1 to 6).

    ``λ · mean (z_1 − z_2)²``, and for each view ``μ · mean_j max(0, 1 − sd_j) / 2`` and
    ``ν · Σ_{i≠j} cov_ij² / d``; the variance term's half stands in the authors' code, not in their paper.

    Parameters
    ----------
    view_1_nd, view_2_nd
        Projections of two views, (n, d); of one cell alone nothing varies.
    invariance_weight, variance_weight, covariance_weight
        λ, μ and ν, ≥ 0.
    """
    loss = invariance_weight * (view_1_nd - view_2_nd).square().mean()
    correction = min(len(view_1_nd) - 1, 1)
    for view_nd in (view_1_nd, view_2_nd):
        sd_d = (view_nd.var(dim=0, correction=correction) + 1e-4).sqrt()
        covariance_dd = torch.cov(view_nd.T, correction=correction).view(view_nd.shape[1], -1)
        off_diagonal = covariance_dd.square().sum() - covariance_dd.diagonal().square().sum()
        loss = loss + variance_weight * F.relu(1 - sd_d).mean() / 2
        loss = loss + covariance_weight * off_diagonal / view_nd.shape[1]
    return loss


def _standardized(view_nd: Tensor) -> Tensor:
    centred_nd = view_nd - view_nd.mean(dim=0)
    return centred_nd / (centred_nd.square().mean(dim=0) + 1e-5).sqrt()
