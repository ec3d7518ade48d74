"""contrastive-sc with other negatives: cells of the same batch alone (the principle of Concord), and hard ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from anndata import AnnData
from torch import Tensor

from benchmarks.quality.cells import library_sizes
from benchmarks.quality.embeddings import LIBRARY_SIZE, N_TOP_GENES, QUIET, Embed, registered
from sc_ssl.data import to_csr
from sc_ssl.models import ContrastiveSC
from sc_ssl.pp import select_genes
from sc_ssl.train import seeded

from .batches import BATCH


def nt_xent_weighed(
    view_1_nd: Tensor, view_2_nd: Tensor, temperature: float, batch_n: Tensor | None, hardness: float
) -> Tensor:
    """NT-Xent whose negatives are of the anchor's batch (``batch_n``), weighed by exp(hardness · similarity) (Robinson 2021)."""
    z_nd = F.normalize(torch.cat([view_1_nd, view_2_nd]), dim=1)
    n = len(z_nd)
    logit_nn = z_nd @ z_nd.T / temperature
    partner_n = (torch.arange(n) + n // 2) % n
    logit_n = logit_nn[torch.arange(n), partner_n]
    negative_nn = ~torch.eye(n, dtype=torch.bool)
    negative_nn[torch.arange(n), partner_n] = False
    if batch_n is not None:
        both_n = torch.cat([batch_n, batch_n])
        negative_nn &= both_n[:, None] == both_n[None]
    weight_nn = torch.where(negative_nn, (hardness * logit_nn.detach()).exp(), 0.0)
    n_negatives = negative_nn.sum(dim=1, keepdim=True)
    weight_nn = weight_nn * n_negatives / weight_nn.sum(dim=1, keepdim=True).clamp_min(1e-12)
    others_n = (weight_nn * logit_nn.exp()).sum(dim=1)
    return -(logit_n - torch.log(logit_n.exp() + others_n)).mean()


def contrastive(*, within_batch: bool, hardness: float = 0.0) -> Embed:
    """contrastive-sc at its defaults, batches named, with these negatives."""

    def embed(adata: AnnData, seed: int) -> np.ndarray:
        genes, counts = select_genes(adata, N_TOP_GENES, batch_key=BATCH), to_csr(adata.X)
        obs = pd.DataFrame({LIBRARY_SIZE: library_sizes(counts), BATCH: adata.obs[BATCH]})
        cells = AnnData(counts, obs=obs, var=adata.var[[]])[:, genes].copy()
        setup = {"library_size_key": LIBRARY_SIZE, "batch_key": BATCH}
        with seeded(seed), registered(ContrastiveSC, cells, **setup) as build:
            model = build()
            module = model.module

            def loss_terms(cells: Mapping[str, Tensor]) -> dict[str, Any]:
                views = [module.encode_view(cells).z_nd for _ in range(2)]
                batch_n = cells["batch"].flatten() if within_batch else None
                return {"nt_xent": nt_xent_weighed(*views, module.temperature, batch_n, hardness)}

            module.loss_terms = loss_terms
            model.train(**QUIET)
            return model.get_latent_representation()

    return embed


ROWS: dict[str, Embed] = {
    "contrastive_sc, negatives of one batch, batch named": contrastive(within_batch=True),
    "contrastive_sc, hard negatives, batch named": contrastive(within_batch=False, hardness=1.0),
}
