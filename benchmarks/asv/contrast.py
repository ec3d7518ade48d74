"""CellLM's divided minibatch: memory against the logical batch, and time against one graph end to end."""

import numpy as np
import torch
from anndata import AnnData
from scipy import sparse

from sc_ssl.data import CellLoader, Cells
from sc_ssl.losses import nt_xent
from sc_ssl.models import CellLM
from sc_ssl.train import divide, divided_backward, end_to_end, seeded

MICRO_BATCH_SIZE = 128
#: a graph through more cells than this takes gigabytes
MAX_END_TO_END = 1024


class LogicalBatch:
    """One gradient of CellLM's default on 2,000 genes, of which a cell expresses 500."""

    params = (["divided", "end to end"], [256, 1024, 4096])
    param_names = ("way", "cells")
    timeout = 600
    number, repeat, warmup_time = 1, 3, 0

    def setup(self, way: str, n_cells: int) -> None:
        """The model and a minibatch."""
        if way == "end to end" and n_cells > MAX_END_TO_END:
            raise NotImplementedError("too large for one graph")
        torch.set_num_threads(1)
        rng = np.random.default_rng(0)
        counts = sparse.random(n_cells, 2000, 0.25, "csr", np.float32, rng, lambda size: rng.poisson(2, size) + 1)
        with seeded(0):
            cells = AnnData(counts)
            CellLM.setup_anndata(cells)
            model = CellLM(cells)
        self.module = model.module.train()
        minibatch = next(
            iter(CellLoader(Cells.from_anndata(cells, list(cells.var_names)), np.arange(n_cells), n_cells))
        )
        self.chunks = divide(self.module, minibatch, MICRO_BATCH_SIZE)

    def time_gradient(self, way: str, n_cells: int) -> None:
        """Forward and backward."""
        self.module.zero_grad()
        if way == "divided":
            divided_backward(self.module, self.chunks, 0)
        else:
            sum(end_to_end(self.module, self.chunks, 0).values()).backward()

    peakmem_gradient = time_gradient


class NTXent:
    """The loss of all views alone, with its gradient."""

    params = [256, 1024, 4096]
    param_names = ("cells",)

    def setup(self, n_cells: int) -> None:
        """Two views in 128 dimensions."""
        torch.set_num_threads(1)
        self.views = [torch.randn(n_cells, 128).requires_grad_() for _ in range(2)]

    def time_gradient(self, n_cells: int) -> None:
        """Forward and backward."""
        torch.autograd.grad(nt_xent(*self.views), self.views)

    peakmem_gradient = time_gradient
