"""Contrastive losses."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

#: similarities of views in a stripe
BLOCK = 2**20


def nt_xent(view_1_nd: Tensor, view_2_nd: Tensor, temperature: float = 0.07) -> Tensor:
    """Normalised temperature-scaled cross-entropy over both views of n cells (Chen et al. 2020, equation 1).

    For each of the 2n views, ``−log(exp(z_a·z_p / τ) / Σ_{j ≠ a} exp(z_a·z_j / τ))`` with p the other view of the same
    cell; the mean is returned. The mask-sc paper prints one-sided negatives; contrastive-sc's code, and this, use all.

    Parameters
    ----------
    view_1_nd, view_2_nd
        Embeddings of two views, (n, d), of any length; row i of both belongs to cell i.
    temperature
        τ, > 0.
    """
    z_nd = F.normalize(torch.cat([view_1_nd, view_2_nd]), dim=1)
    if len(z_nd) ** 2 <= BLOCK:
        return F.cross_entropy(_similarity(z_nd, z_nd, 0, temperature), _partner(z_nd, 0, len(z_nd)))
    total: Tensor = _Striped.apply(z_nd, temperature)
    return total / len(z_nd)


class _Striped(torch.autograd.Function):
    """The summed loss of large minibatches: a stripe of the similarities at a time gives its loss and its gradient.

    The gradient is a constant to autograd: there are no second derivatives.
    """

    @staticmethod
    def forward(ctx: Any, z_nd: Tensor, temperature: float) -> Tensor:
        wide = torch.promote_types(z_nd.dtype, torch.float32)  # in half precision sums of many would be lost
        wide_nd, total = z_nd.to(wide), z_nd.new_zeros((), dtype=wide)
        gradient_nd = torch.zeros_like(wide_nd)
        n_rows = max(BLOCK // len(z_nd), 1)
        for start in range(0, len(z_nd), n_rows):
            own_rd = z_nd[start : start + n_rows]
            partner_r1 = _partner(z_nd, start, len(own_rd))[:, None]
            log_p_rn = _similarity(own_rd, z_nd, start, temperature).to(wide).log_softmax(dim=1)
            total -= log_p_rn.gather(1, partner_r1).sum()
            error_rn = log_p_rn.exp_().scatter_add_(1, partner_r1, torch.full_like(log_p_rn[:, :1], -1))
            gradient_nd[start : start + n_rows] += error_rn @ wide_nd
            gradient_nd += error_rn.T @ wide_nd[start : start + n_rows]
        ctx.save_for_backward(gradient_nd.div_(temperature).to(z_nd.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (gradient_nd,) = ctx.saved_tensors
        return gradient.to(gradient_nd.dtype) * gradient_nd, None


def _similarity(own_rd: Tensor, z_nd: Tensor, start: int, temperature: float) -> Tensor:
    """Cosine over temperature of the views from ``start`` on to all, −∞ to themselves."""
    similarity = own_rd @ z_nd.T / temperature
    similarity.diagonal(start).fill_(-torch.inf)
    return similarity


def _partner(z_nd: Tensor, start: int, n_rows: int) -> Tensor:
    """Where the other view of the same cell is, of the views from ``start`` on."""
    view = torch.arange(start, start + n_rows, device=z_nd.device)
    return (view + len(z_nd) // 2) % len(z_nd)
