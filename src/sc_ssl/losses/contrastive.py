"""Contrastive losses."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

#: views whose similarities to all others are in memory at a time
BLOCK = 1024


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
    if len(z_nd) <= BLOCK:
        return _block(z_nd, 0, temperature) / len(z_nd)
    # of large minibatches, only a stripe of the similarities is kept, and made anew for its gradient
    stripes = [
        checkpoint(_block, z_nd, start, temperature, use_reentrant=False, preserve_rng_state=False)
        for start in range(0, len(z_nd), BLOCK)
    ]
    return torch.stack(stripes).sum() / len(z_nd)


def _block(z_nd: Tensor, start: int, temperature: float) -> Tensor:
    """The summed loss of the views from ``start`` on, at most `BLOCK` of them."""
    similarity = z_nd[start : start + BLOCK] @ z_nd.T / temperature
    similarity.diagonal(start).fill_(-torch.inf)
    view = torch.arange(start, start + len(similarity), device=z_nd.device)
    return F.cross_entropy(similarity, (view + len(z_nd) // 2) % len(z_nd), reduction="sum")
