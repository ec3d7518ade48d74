"""A network that follows another one slowly."""

import copy

import torch
from torch import Tensor, nn


class MovingAverage(nn.Module):
    """The exponential moving average of a network, in parameters and in buffers; never trained by gradient.

    It stays in eval mode whatever the module around it does, so its batch norm uses the averaged statistics. Its state
    lies in this module and is saved with it. In the authors' code of Richter et al. the average was never updated.

    Parameters
    ----------
    online
        The network to follow; copied.
    momentum
        Share of the average that stays at each update, in [0, 1).
    """

    def __init__(self, online: nn.Module, momentum: float) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum lies in [0, 1), found {momentum}: at 1 the average would never move.")
        self.momentum = momentum
        self.average = copy.deepcopy(online).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "MovingAverage":
        """Always in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def update(self, online: nn.Module) -> None:
        """``average ← momentum · average + (1 − momentum) · online``; counters are copied."""
        for averages, values in (
            (self.average.parameters(), online.parameters()),
            (self.average.buffers(), online.buffers()),
        ):
            for average, value in zip(averages, values, strict=True):
                if average.is_floating_point():
                    average.lerp_(value, 1 - self.momentum)
                else:
                    average.copy_(value)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """What the averaged network says."""
        return self.average(x)  # type: ignore[no-any-return]
