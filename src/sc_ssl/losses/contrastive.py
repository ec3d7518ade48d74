"""Contrastive losses."""

import torch
import torch.nn.functional as F
from torch import Tensor


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
    z = F.normalize(torch.cat([view_1_nd, view_2_nd]), dim=1)
    similarity = z @ z.T / temperature
    similarity.fill_diagonal_(-torch.inf)
    n = len(view_1_nd)
    other_view = torch.arange(2 * n, device=z.device).roll(n)
    return F.cross_entropy(similarity, other_view)
