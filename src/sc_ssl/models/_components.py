"""The principal components whose neighbours, or which themselves, MaskSC predicts."""

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

#: more cells than this do not change the leading components; evenly spread ones are taken
MAX_CELLS = 20_000
#: a component of standard deviation s is scaled to s to the power of 1 − this
WHITENING = 0.25


class FrozenComponents(nn.Module):
    """Principal components of a cell's weighed z-scores, a quarter of the way to equal variance.

    Components of equal variance (the limit that contrastive features come close to) put a batch or a cell's depth on a
    par with its type; bare components leave subtle types to the noise.

    Parameters
    ----------
    n_genes, n_components
        g and c; components that the data do not have are 0.
    """

    loading_gc: Tensor

    def __init__(self, n_genes: int, n_components: int) -> None:
        super().__init__()
        self.n_features = min(n_components, n_genes)
        self.register_buffer("loading_gc", torch.zeros(n_genes, self.n_features))

    def fit(self, x_ng: Tensor) -> None:
        """Find the components of these cells."""
        found = PCA(min(self.n_features, len(x_ng) - 1), svd_solver="randomized", random_state=0).fit(x_ng.numpy())
        sd_c = np.sqrt(np.maximum(found.explained_variance_, 1e-12))
        loading_cg = found.components_ * sd_c[:, None] ** -WHITENING
        loading_cg /= np.sqrt(np.mean((sd_c ** (1 - WHITENING)) ** 2))
        self.loading_gc.zero_()
        self.loading_gc[:, : len(sd_c)] = torch.as_tensor(loading_cg.T)

    def forward(self, x_ng: Tensor, patch_ntp: Tensor) -> Tensor:
        """Components of whole cells, (n, 1, c), with a mean variance of 1."""
        return (x_ng @ self.loading_gc)[:, None]
