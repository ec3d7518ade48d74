"""Reconstruction losses."""

from torch import Tensor


def squared_error(predicted: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared error over all entries, or the sum weighed by entry.

    Equation of the mask-sc paper with the sum over dimensions replaced by the mean, so that 1.0 is the error of
    predicting the mean of a standardised target whatever its dimension.

    Parameters
    ----------
    predicted, target
        Same shape, for example (n, m, d); the target carries no gradient.
    weight
        Weight of each entry, same shape.
    """
    error = (predicted - target.detach()).square()
    return error.mean() if weight is None else (error * weight).sum()


def scored_weight(scored_ng: Tensor) -> Tensor:
    """Weights of scored entries, (n, g): those of a cell share ``1 / n``, so that how many are scored does not matter.

    Richter et al.'s code divides by all entries, so that its loss grows with the share that is hidden. Cells without a
    scored entry have no weight, and the others share it.
    """
    n_scored_n1 = scored_ng.sum(dim=1, keepdim=True)
    n_cells = (n_scored_n1 > 0).sum().clamp(min=1)
    return scored_ng / (n_scored_n1.clamp(min=1) * n_cells)
