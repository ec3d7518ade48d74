"""Clustering losses: cells are drawn to centres, or to the cells that they resemble already."""

import torch
import torch.nn.functional as F
from torch import Tensor


def student_t_assignment(z_nd: Tensor, center_kd: Tensor) -> Tensor:
    """Soft assignment ``q_nk ∝ 1 / (1 + |z_n − μ_k|²)``, rows sum to 1 (Xie et al. 2016, equation 1, α = 1)."""
    similarity_nk = 1 / (1 + squared_distance(z_nd, center_kd))
    return similarity_nk / similarity_nk.sum(dim=1, keepdim=True)


def target_distribution(q_nk: Tensor, frequency_k: Tensor) -> Tensor:
    """The sharper ``p_nk ∝ q_nk² / f_k``, rows sum to 1, without gradient (Xie et al. 2016, equation 3).

    Parameters
    ----------
    q_nk
        Soft assignment of some cells.
    frequency_k
        Soft frequency f of each cluster over all cells, up to a factor; dividing by it keeps large clusters from
        swallowing the others.
    """
    with torch.no_grad():
        weight_nk = q_nk.square() / frequency_k
        return weight_nk / weight_nk.sum(dim=1, keepdim=True)


def assignment_kl(p_nk: Tensor, q_nk: Tensor) -> Tensor:
    """Mean over cells of ``KL(p ‖ q) = Σ_k p_k log(p_k / q_k)``; p carries no gradient."""
    return F.kl_div(q_nk.log(), p_nk.detach(), reduction="batchmean")


def soft_kmeans_weights(distance_nk: Tensor) -> Tensor:
    """How much each centre pulls at a cell: ``w ∝ softmax(−distance)²``, rows sum to 1, without gradient.

    Parameters
    ----------
    distance_nk
        Squared distances of cells to centres.
    """
    # squaring a softmax and normalising again doubles its argument
    return (-2 * distance_nk.detach()).softmax(dim=1)


def soft_kmeans(z_nd: Tensor, center_kd: Tensor) -> Tensor:
    """Weighted soft K-means: mean over cells of ``Σ_k w_nk |z_n − μ_k|²`` (scziDesk, Chen et al. 2020).

    Departs from the authors' code, where the gradient also runs through the weights: here they are held while cells
    and centres move, as in the alternation that K-means is.
    """
    distance_nk = squared_distance(z_nd, center_kd)
    return (soft_kmeans_weights(distance_nk) * distance_nk).sum(dim=1).mean()


def pairwise_similarity_kl(z_nd: Tensor) -> Tensor:
    """Self-training on the similarities between the cells of a minibatch (scziDesk, Chen et al. 2020).

    ``p_ij ∝ 1 / (1 + |z_i − z_j|²)`` for j ≠ i, rows sum to 1; the target ``q_i ∝ p_i²`` is sharper and carries no
    gradient. Departs from the authors' code, which sums ``KL(q ‖ p)`` over cells, so that its weight against the other
    losses hangs on the batch size: here it is the mean over cells. One cell alone, which resembles none, gives 0.
    """
    if len(z_nd) == 1:
        return 0 * z_nd.sum()
    similarity_nn = 1 / (1 + squared_distance(z_nd, z_nd))
    similarity_nn = similarity_nn * (1 - torch.eye(len(z_nd), device=z_nd.device))
    p_nn = similarity_nn / similarity_nn.sum(dim=1, keepdim=True)
    q_nn = target_distribution(p_nn, torch.ones(len(z_nd), device=z_nd.device))
    # the diagonal, 0 in both, adds nothing
    return F.kl_div(p_nn.clamp(min=1e-12).log(), q_nn, reduction="batchmean")


def squared_distance(a_nd: Tensor, b_kd: Tensor) -> Tensor:
    """``|a_n − b_k|²``, (n, k), at least 0."""
    squares_nk = a_nd.square().sum(dim=1, keepdim=True) + b_kd.square().sum(dim=1)
    return (squares_nk - 2 * a_nd @ b_kd.T).clamp(min=0)
