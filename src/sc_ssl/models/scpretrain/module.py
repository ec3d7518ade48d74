"""scPretrain's network: an encoder, and for each data set a head that predicts the clusters of its own cells."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_ssl.data import log_expression
from sc_ssl.models.base import SSLModule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sc_ssl.data import Cells
    from sc_ssl.nn import LogNormalize


class ScPretrainModule(SSLModule):
    """An encoder from whose gated output one head for each data set predicts that data set's own clusters."""

    label_nj: Tensor
    n_epochs_of_round: Tensor

    def __init__(
        self,
        *,
        normalize: LogNormalize,
        encoder: nn.Module,
        gate: nn.Module,
        n_latent: int,
        n_clusters_bj: Sequence[Sequence[int]],
        weigh_tasks: bool,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.encoder = encoder
        self.gate = gate
        self.n_clusters_bj = [list(k_j) for k_j in n_clusters_bj]
        self.weigh_tasks = weigh_tasks
        self.heads = nn.ModuleList(nn.Linear(n_latent, sum(k_j)) for k_j in self.n_clusters_bj)
        shape = len(self.n_clusters_bj), len(self.n_clusters_bj[0])
        self.register_buffer("n_epochs_of_round", torch.tensor(0))
        self.register_buffer("agreement_bj", torch.zeros(shape))
        self.register_buffer("entropy_bj", torch.zeros(shape))
        self.register_buffer("right_bj", torch.zeros(shape), persistent=False)
        self.register_buffer("seen_bj", torch.zeros(shape), persistent=False)
        self.register_buffer("label_nj", torch.zeros(0, shape[1], dtype=torch.int64), persistent=False)

    def embed(self, cells: Mapping[str, Tensor]) -> Tensor:
        """The encoder's output (n, n_latent), before the gate."""
        return self.encoder(self.normalize(cells))

    def loss_terms(self, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy of each cell's cluster under its data set's head, summed over mean cluster sizes."""
        # a head sees the cells of its own data set, and predicts all mean sizes at once: (m, Σ k_j), split by size
        h_nd, label_nj = self.gate(self.embed(cells)), self.label_nj[cells["cell"]]
        batch_n, total = cells["batch"].flatten(), h_nd.new_zeros(())
        for b, (head, k_j) in enumerate(zip(self.heads, self.n_clusters_bj, strict=True)):
            rows = (batch_n == b).nonzero().flatten()
            if len(rows):
                logits = head(h_nd[rows]).split(k_j, dim=1)
                total = total + self._cross_entropy(logits, label_nj[rows], b)
        return {"cross_entropy": total / len(batch_n)}

    def start_round(self) -> None:
        """New random weights for the heads: clusters come in another order each time, so old heads know nothing."""
        self.n_epochs_of_round.zero_()
        for head in self.heads:
            head.reset_parameters()

    def _cross_entropy(self, logits: Sequence[Tensor], label_mj: Tensor, b: int) -> Tensor:
        """Sum over cells and clusterings of one data set; a task of k clusters starts near ln k, and may be divided by it."""
        total = logits[0].new_zeros(())
        for j, logits_mk in enumerate(logits):
            weight = 1 / math.log(logits_mk.shape[1]) if self.weigh_tasks else 1.0
            total = total + weight * F.cross_entropy(logits_mk, label_mj[:, j], reduction="sum")
            if self.training:
                self.right_bj[b, j] += (logits_mk.detach().argmax(dim=1) == label_mj[:, j]).sum()
                self.seen_bj[b, j] += len(label_mj)
        return total

    # the labels are part of the state, but there are as many as cells, which a buffer's shape may not follow

    def get_extra_state(self) -> Tensor:
        """The labels, as they are saved."""
        return self.label_nj

    def set_extra_state(self, state: Tensor) -> None:
        """The labels, as they are loaded."""
        self.label_nj = state.to(self.label_nj).clone()


#: cells that are mapped at a time
N_ROWS = 4096


def is_linear(module: ScPretrainModule) -> bool:
    """Whether the embedding is W·log1p(…) plus a constant of the batch, on the CPU."""
    normalize = module.normalize
    unscaled = normalize.clip == math.inf and bool((normalize.sd_bg == 1).all() and (normalize.weight_g == 1).all())
    return isinstance(module.encoder, nn.Linear) and unscaled and normalize.mean_bg.device.type == "cpu"


@torch.inference_mode()
def map_linearly(module: ScPretrainModule, cells: Cells, index: np.ndarray) -> np.ndarray:
    """What ``module.embed`` gives, up to rounding: W·log1p(x) − W·mean + bias, (n, n_latent) float32.

    Only counts above 0 are touched, a twentieth of what a dense minibatch holds. A gene that the data did not measure
    takes part in neither product.
    """
    # the part that all cells of a batch share, (1 + b, d): bias − W·mean over the measured genes
    normalize, weight_dg = module.normalize, module.encoder.weight
    shift_bd = module.encoder.bias - torch.where(torch.as_tensor(cells.measured), normalize.mean_bg, 0.0) @ weight_dg.T
    row_n = cells.batch[index] + 1 if len(shift_bd) > 2 else np.zeros(len(index), int)
    z_nd = shift_bd.numpy()[row_n]
    weight_gd = np.ascontiguousarray(weight_dg.T.numpy())
    for start in range(0, len(index), N_ROWS):
        part = index[start : start + N_ROWS]
        log_ng = cells.rows(part)
        if not normalize.log_input:
            library_n = cells.library_size[part] if normalize.by_library else np.ones(len(part))
            log_ng = log_expression(log_ng, library_n, float(normalize.target_sum))
        z_nd[start : start + N_ROWS] += log_ng.astype(np.float32, copy=False) @ weight_gd
    return z_nd
