"""Noise that keeps a cell's identity."""

import torch.nn.functional as F
from torch import Tensor


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
