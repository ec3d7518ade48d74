"""A trained embedding as a differentiable function of expression."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sc_ssl._threads import own_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from anndata import AnnData

    from .module import SSLModule

    #: minibatches of cells, by default the model's own
    Reader = Callable[[AnnData | None, Sequence[int] | np.ndarray | None], Iterable[Mapping[str, Tensor]]]


class Expression(NamedTuple):
    """Cells as a model's embedding takes them: normalised expression (n, g), and the codes of their batches (n, 1)."""

    x_ng: Tensor
    batch_n1: Tensor

    def take(self, index: np.ndarray) -> Expression:
        """Some of the cells, repeats allowed."""
        index_m = torch.as_tensor(index, device=self.x_ng.device)
        return Expression(self.x_ng[index_m], self.batch_n1[index_m])


class EmbeddingFunction:
    """The embedding of a trained model as a function of its normalised expression; its gradient can be taken.

    ``function(*function.read(indices=[0, 1]))`` is the model's embedding of its first two cells. The expression is
    weighed z-scores of log1p, of :class:`~sc_ssl.models.CellLM` log1p itself. The module is put into eval mode.

    Parameters
    ----------
    module
        The module of a trained model.
    genes
        Names of its genes, in the order of the columns.
    reader
        Minibatches of cells and of positions among them, by default of the model's own.
    """

    def __init__(self, module: SSLModule, genes: list[str], reader: Reader) -> None:
        self.module, self.genes = module.eval(), genes
        self._reader = reader

    @torch.no_grad()
    @own_threads()
    def read(self, adata: AnnData | None = None, indices: Sequence[int] | np.ndarray | None = None) -> Expression:
        """Normalised expression of cells, as of ``get_latent_representation``; dense, so ask for those that are needed."""
        parts = [(self.module.expression(cells), cells["batch"]) for cells in self._reader(adata, indices)]
        x, batch = zip(*parts, strict=True)
        return Expression(torch.cat(x).float(), torch.cat(batch))

    @torch.no_grad()
    def empty(self, batch_n1: Tensor) -> Tensor:
        """The expression of cells of these batches without a count, (n, g)."""
        no_log_ng = torch.zeros(len(batch_n1), len(self.genes), device=batch_n1.device)
        return self.module.expression({"log": no_log_ng, "batch": batch_n1})

    def __call__(self, x_ng: Tensor, batch_n1: Tensor) -> Tensor:
        """The embedding (n, d) of this expression, of cells of these batches (−1: a batch that the model has not seen)."""
        return self.module.embed_expression(x_ng, batch_n1)
