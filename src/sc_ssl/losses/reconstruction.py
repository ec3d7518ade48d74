"""Reconstruction losses."""

from torch import Tensor


def squared_error(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over cells, hidden tokens and target dimensions.

    Equation of the mask-sc paper with the sum over dimensions replaced by the mean, so that 1.0 is the error of
    predicting the mean of a standardised target whatever its dimension.

    Parameters
    ----------
    predicted, target
        Same shape, for example (n, m, d); the target carries no gradient.
    """
    return (predicted - target.detach()).square().mean()
