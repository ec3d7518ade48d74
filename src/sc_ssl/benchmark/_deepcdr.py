"""A network in the style of DeepCDR (Liu et al. 2020), from expression alone, as CellLM's authors run it beside theirs.

Cell branch and joint network as in their code; fingerprints instead of a graph network on the molecule; pairs of cell
and drug instead of rows of a table.
"""

import numpy as np
import torch
from torch import Tensor, nn

N_EPOCHS, BATCH_SIZE, LR = 20, 1024, 1e-3
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

    def forward(self, x_bg: Tensor, feature_bf: Tensor) -> Tensor:
        """(b, g) and (b, f) → (b,)."""
        return self.joint(torch.cat([self.cell(x_bg), self.drug(feature_bf)], dim=1)).flatten()


def train(x_ng: np.ndarray, feature_mf: np.ndarray, y_nm: np.ndarray) -> np.ndarray:
    """Fit the responses that are not NaN; predictions (n, m)."""
    x_ng, feature_mf, y_nm = (torch.as_tensor(array) for array in (x_ng, feature_mf, y_nm))
    pairs_p2 = torch.isfinite(y_nm).nonzero()
    network = Network(x_ng.shape[1], feature_mf.shape[1])
    nn.init.constant_(network.joint[-1].bias, y_nm[torch.isfinite(y_nm)].mean())
    optimizer = torch.optim.Adam(network.parameters(), lr=LR)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, N_EPOCHS)
    for _ in range(N_EPOCHS):
        for n, m in (batch.T for batch in pairs_p2[torch.randperm(len(pairs_p2))].split(BATCH_SIZE)):
            loss = (network(x_ng[n], feature_mf[m]) - y_nm[n, m]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
    network.eval()
    with torch.no_grad():
        cell_nc, drug_md = network.cell(x_ng), network.drug(feature_mf)
        rows = [torch.cat([c.expand(len(drug_md), -1), drug_md], dim=1) for c in cell_nc]
        return torch.stack([network.joint(row).flatten() for row in rows]).numpy()
