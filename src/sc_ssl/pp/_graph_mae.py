"""GraphMAE (Hou et al. 2022, KDD): hide the features of some nodes of a graph and predict them from their neighbours."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: of the hidden nodes, those that show another node's features instead of [MASK], as published
REPLACED_RATE = 0.05
#: power of the scaled cosine error: nodes that are predicted well count less
GAMMA = 3.0
N_HEADS = 4


class GraphMAE(nn.Module):
    """Two layers of graph attention encode, a third decodes; what was hidden is hidden from the decoder again.

    Parameters
    ----------
    n_features
        Width f of a node's features.
    n_dims
        Width d of a node's embedding, a multiple of 4.
    mask_rate
        Share of the nodes that are hidden, in (0, 1).
    """

    def __init__(self, n_features: int, n_dims: int, mask_rate: float) -> None:
        from torch_geometric.nn import GATConv

        super().__init__()
        self.mask_rate = mask_rate
        self.mask = nn.Parameter(torch.zeros(n_features))
        width = n_dims // N_HEADS
        self.layers = nn.ModuleList([GATConv(n, width, heads=N_HEADS) for n in (n_features, n_dims)])
        self.activations = nn.ModuleList([nn.PReLU(), nn.PReLU()])
        self.to_decoder = nn.Linear(n_dims, n_dims, bias=False)
        self.decoder = GATConv(n_dims, n_features)

    def encode(self, x_vf: Tensor, edge_2e: Tensor) -> Tensor:
        """(v, f) → (v, d)."""
        for layer, activation in zip(self.layers, self.activations, strict=True):
            x_vf = activation(layer(x_vf, edge_2e))
        return x_vf

    def loss(self, x_vf: Tensor, edge_2e: Tensor) -> Tensor:
        """Scaled cosine error of the hidden nodes' features."""
        order = torch.randperm(len(x_vf))
        hidden = order[: max(1, round(self.mask_rate * len(x_vf)))]
        replaced = hidden[: round(REPLACED_RATE * len(hidden))]
        shown_vf = x_vf.index_put((hidden,), self.mask)
        shown_vf = shown_vf.index_put((replaced,), x_vf[torch.randint(len(x_vf), (len(replaced),))])
        code_vd = self.to_decoder(self.encode(shown_vf, edge_2e))
        code_vd = code_vd.index_fill(0, hidden, 0.0)  # re-masking: the decoder has neighbours only
        return scaled_cosine_error(self.decoder(code_vd, edge_2e)[hidden], x_vf[hidden])


def scaled_cosine_error(predicted_vf: Tensor, target_vf: Tensor) -> Tensor:
    """Mean of ``(1 − cos(predicted, target))^γ`` over nodes, eq. 2 of the paper."""
    return (1 - F.cosine_similarity(predicted_vf, target_vf, dim=-1)).pow(GAMMA).mean()


def train_graph_mae(
    x_vf: Tensor, edge_2e: Tensor, *, n_dims: int, mask_rate: float, max_epochs: int, lr: float
) -> tuple[Tensor, list[float]]:
    """The nodes' embedding (v, d) after training on the whole graph, and the loss of every epoch."""
    model = GraphMAE(x_vf.shape[1], n_dims, mask_rate)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max_epochs)
    losses = []
    for _ in range(max_epochs):
        loss = model.loss(x_vf, edge_2e)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(float(loss.detach()))
    with torch.no_grad():
        return model.encode(x_vf, edge_2e), losses
