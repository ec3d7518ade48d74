"""What the masked autoencoder's training adds to a plain loop, and what drawing masks costs of a step."""

import numpy as np
import torch
from anndata import AnnData
from scipy import sparse

from sc_ssl.data import CellLoader, Cells
from sc_ssl.models import MaskedAutoencoder
from sc_ssl.train import seeded
from sc_ssl.views import GenePrograms, OneProgram, ProgramToRegulator, RandomGenes

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
N_EPOCHS = 5


class Epochs:
    """Five epochs of 4,096 cells × 2,000 genes: by ``train``, and the same network over a tensor in memory."""

    params = ["train", "plain loop"]
    param_names = ("way",)
    number, repeat, warmup_time = 1, 3, 0

    def setup(self, way: str) -> None:
        """The model, trained once so that what is done once is done, and its cells as a tensor."""
        torch.set_num_threads(1)
        rng = np.random.default_rng(0)
        counts = sparse.random(4096, 2000, 0.1, "csr", np.float32, rng, lambda size: rng.poisson(2, size) + 1)
        with seeded(0):
            cells = AnnData(counts)
            MaskedAutoencoder.setup_anndata(cells)
            self.model = MaskedAutoencoder(cells)
            self.model.train(1, **QUIET)
            read, batch_size = Cells.from_anndata(cells, list(cells.var_names)), self.model.training.batch_size
            minibatches = list(CellLoader(read, np.arange(read.n_cells), batch_size))
        with torch.no_grad():
            self.ready = [{"normalized": self.model.module.normalize(m)} | m for m in minibatches]

    def time_epochs(self, way: str) -> None:
        """Forward, backward and optimiser steps."""
        if way == "train":
            self.model.train(N_EPOCHS, **QUIET)
            return
        module = self.model.module.train()
        optimizer = torch.optim.AdamW(module.parameters(), 1e-3)
        for _ in range(N_EPOCHS):
            for i in torch.randperm(len(self.ready)).tolist():
                optimizer.zero_grad()
                sum(module.loss_terms(self.ready[i]).values()).backward()
                torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
                optimizer.step()


class Masks:
    """Masks of 512 cells over 19,331 genes, and the step of the published network that they belong to."""

    params = ["random genes", "programmes", "one programme", "programme to regulator", "a step without masks"]
    param_names = ("mask",)
    n_genes, n_cells, n_programs = 19_331, 512, 1_500

    def setup(self, mask: str) -> None:
        """Programmes of 40 genes on average, as Reactome's."""
        torch.set_num_threads(1)
        torch.manual_seed(0)
        member_pg = torch.rand(self.n_programs, self.n_genes) < 40 / self.n_genes
        member_pg[:, 0] = True
        if mask == "a step without masks":
            widths = (self.n_genes, 512, 512, 256, 256, 64, 256, 256, 512, 512, self.n_genes)
            pairs = zip(widths[:-1], widths[1:], strict=True)
            self.network = torch.nn.Sequential(*(torch.nn.Linear(a, b) for a, b in pairs))
            self.optimizer = torch.optim.AdamW(self.network.parameters())
            self.x_ng = torch.randn(self.n_cells, self.n_genes)
        elif mask == "random genes":
            self.masking = RandomGenes(self.n_genes)
        elif mask == "programmes":
            self.masking = GenePrograms(member_pg)
        elif mask == "one programme":
            self.masking = OneProgram(member_pg)
        else:
            self.masking = ProgramToRegulator(member_pg, torch.ones(self.n_programs, dtype=torch.long))

    def time_draw(self, mask: str) -> None:
        """Draw, or step."""
        if mask != "a step without masks":
            self.masking(self.n_cells)
            return
        self.optimizer.zero_grad()
        (self.network(self.x_ng) - self.x_ng).square().mean().backward()
        self.optimizer.step()
