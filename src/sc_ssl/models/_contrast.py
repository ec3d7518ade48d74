"""A module whose loss compares the embeddings of two random views of cells, at once or in a divided minibatch."""

from abc import abstractmethod

import torch
from torch import Tensor

from sc_ssl.train import View, joint_terms

from ._module import SSLModule


class ContrastModule(SSLModule):
    """``ssl_loss`` in two parts: what each cell can do alone, and what needs the embeddings of all.

    :class:`~sc_ssl.train.ChunkedContrastPlan` needs no more than these parts.
    """

    n_views: int = 2
    #: the noise of a view is drawn once for all cells, and must be the same in all chunks
    shares_noise: bool = False

    @abstractmethod
    def encode_view(self, cells: dict[str, Tensor]) -> View:
        """A random view of these cells; no cell's embedding depends on another cell."""

    @abstractmethod
    def contrast(self, views: list[Tensor]) -> dict[str, Tensor]:
        """The weighted terms of the embeddings (n, d) of all cells in each view."""

    def order(self, cells: dict[str, Tensor]) -> Tensor:
        """The order in which cells are chunked, (n,): as they come."""
        return torch.arange(len(cells["batch"]), device=cells["batch"].device)

    def ssl_loss(self, cells: dict[str, Tensor]) -> dict[str, Tensor]:
        """All terms of an undivided minibatch."""
        return joint_terms(self, [[self.encode_view(cells)] for _ in range(self.n_views)])
