"""A trained embedding as a differentiable function of expression."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sc_ssl._threads import own_threads
from sc_ssl.data import MIN_COVERAGE, positions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from .model import SSLModel


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
    model
        A trained model.
    """

    def __init__(self, model: SSLModel) -> None:
        self._model = model
        self.module = model.module.eval()
        #: names of the genes, in the order of the columns
        self.genes: list[str] = model.var_names

    @torch.no_grad()
    @own_threads()
    def read(self, adata: AnnData | None = None, indices: Sequence[int] | np.ndarray | None = None) -> Expression:
        """Normalised expression of cells, as of ``get_latent_representation``; dense, so ask for those that are needed."""
        model = self._model
        cells = model._own_cells() if adata is None else model._read(adata, MIN_COVERAGE)
        index = positions(cells.n_cells, indices)
        parts = [(self.module.expression(minibatch), minibatch["batch"]) for minibatch in model._loader(cells, index)]
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
