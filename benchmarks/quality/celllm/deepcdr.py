"""A network in the style of DeepCDR (Liu et al. 2020), from expression alone, as CellLM's authors run it beside theirs.

Cell branch and joint network as in their code; fingerprints instead of a graph network on the molecule; pairs of cell
and drug instead of rows of a table.
"""

import numpy as np
import torch
from torch import Tensor, nn

N_EPOCHS, BATCH_SIZE, LR = 20, 2048, 1e-3
WIDTH = 256


class Network(nn.Module):
    """ln IC50 of pairs."""

    def __init__(self, n_genes: int, n_features: int) -> None:
        super().__init__()
        cell = [
            nn.Linear(n_genes, 256),
            nn.Tanh(),
            nn.BatchNorm1d(256),
            nn.Dropout(0.1),
            nn.Linear(256, 100),
            nn.ReLU(),
        ]
        drug = [nn.Linear(n_features, 256), nn.ReLU(), nn.BatchNorm1d(256), nn.Dropout(0.1), nn.Linear(256, 100)]
        self.cell, self.drug = nn.Sequential(*cell), nn.Sequential(*drug, nn.ReLU())
        hidden = [nn.Linear(200, WIDTH), nn.ELU(), nn.Dropout(0.2), nn.Linear(WIDTH, WIDTH), nn.ELU(), nn.Dropout(0.2)]
        self.joint = nn.Sequential(*hidden, nn.Linear(WIDTH, 1))

    def forward(self, x_ng: Tensor, feature_mf: Tensor, pairs_2p: Tensor) -> Tensor:
        """(n, g), (m, f) and pairs of their rows → (p,)."""
        cell_p, drug_p = pairs_2p
        return self.joint(torch.cat([self.cell(x_ng)[cell_p], self.drug(feature_mf)[drug_p]], dim=1)).flatten()


def train(x_ng: np.ndarray, feature_mf: np.ndarray, y_nm: np.ndarray) -> np.ndarray:
    """Fit the responses that are not NaN; predictions (n, m)."""
    x_ng, feature_mf, y_nm = (torch.tensor(array) for array in (x_ng, feature_mf, y_nm))
    measured_nm = torch.isfinite(y_nm)
    pairs_p2, known_n, known_m = measured_nm.nonzero(), measured_nm.any(dim=1), measured_nm.any(dim=0)
    position_n, position_m = known_n.cumsum(0) - 1, known_m.cumsum(0) - 1
    network = Network(x_ng.shape[1], feature_mf.shape[1])
    nn.init.constant_(network.joint[-1].bias, y_nm[measured_nm].mean())
    optimizer = torch.optim.Adam(network.parameters(), lr=LR)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, N_EPOCHS)
    for _ in range(N_EPOCHS):
        for n, m in (batch.T for batch in pairs_p2[torch.randperm(len(pairs_p2))].split(BATCH_SIZE)):
            pairs_2p = torch.stack([position_n[n], position_m[m]])
            loss = (network(x_ng[known_n], feature_mf[known_m], pairs_2p) - y_nm[n, m]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
    network.eval()
    with torch.no_grad():
        everything_2p = torch.cartesian_prod(torch.arange(len(x_ng)), torch.arange(len(feature_mf))).T
        return network(x_ng, feature_mf, everything_2p).reshape(y_nm.shape).numpy()
