"""The frozen encoders whose features MaskSC predicts: principal components, or a contrastive encoder."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from torch import Tensor, nn

from .contrastive_sc import ContrastiveSCModule

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


class FrozenTeacher(nn.Module):
    """Features of whole cells or of patches from a contrastive encoder; never trained as part of this.

    Parameters
    ----------
    contrastive
        Contrastive module over the same genes.
    patch_genes_tp
        Positions of each patch's genes, −1 for none.
    context_tt
        True where patch j belongs to what the teacher sees for patch i; ``None`` where it sees the whole cell.
    is_trained
        Whether it is trained already.
    """

    is_trained: Tensor
    mean_td: Tensor
    sd_td: Tensor
    patch_genes_tp: Tensor
    context_tt: Tensor | None

    def __init__(
        self,
        contrastive: ContrastiveSCModule,
        patch_genes_tp: Tensor,
        context_tt: Tensor | None,
        *,
        is_trained: bool = False,
    ) -> None:
        super().__init__()
        self.contrastive = contrastive.requires_grad_(False).eval()
        last = contrastive.encoder[-1]
        self.n_features = int(last.out_features)
        self.register_buffer("is_trained", torch.tensor(is_trained))
        self.register_buffer("patch_genes_tp", patch_genes_tp)
        self.register_buffer("context_tt", context_tt)
        shape = (1 if context_tt is None else len(patch_genes_tp), self.n_features)
        self.register_buffer("mean_td", torch.zeros(shape))
        self.register_buffer("sd_td", torch.ones(shape))

    def train(self, mode: bool = True) -> "FrozenTeacher":
        """Always in eval mode: no dropout, batch norm fixed."""
        return super().train(False)

    @contextmanager
    def unfrozen(self) -> Iterator[ContrastiveSCModule]:
        """The encoder, trainable inside the block."""
        try:
            yield self.contrastive.requires_grad_(True)
        finally:
            self.contrastive.requires_grad_(False).eval()

    def forward(self, x_ng: Tensor, patch_ntp: Tensor) -> Tensor:
        """Features (n, t, c) of each patch with its context, or (n, 1, c) of whole cells; standardised."""
        return (self._features(x_ng, patch_ntp) - self.mean_td) / self.sd_td

    def fit_scale(self, minibatches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Measure mean and sd per patch and dimension: the constant part says nothing about a cell."""
        n, total, squares = 0, torch.zeros_like(self.mean_td), torch.zeros_like(self.mean_td)
        for x_ng, patch_ntp in minibatches:
            features = self._features(x_ng, patch_ntp)
            n, total, squares = n + len(features), total + features.sum(0), squares + features.square().sum(0)
        self.mean_td.copy_(total / n)
        self.sd_td.copy_((squares / n - self.mean_td.square()).clamp(min=1e-12).sqrt())

    def _features(self, x_ng: Tensor, patch_ntp: Tensor) -> Tensor:
        if self.context_tt is None:
            return F.normalize(self.contrastive.encoder(x_ng), dim=1)[:, None]
        # the first layer is linear: what a teacher sees of a set of patches is the sum of what it sees of each
        first, *rest = self.contrastive.encoder
        scale = len(self.context_tt) / self.context_tt.sum(dim=1)[:, None]
        weight_ght = torch.cat([first.weight.T, first.weight.new_zeros(1, first.out_features)])[self.patch_genes_tp]
        h_nth = torch.einsum("ntp,tph->nth", patch_ntp, weight_ght)
        h_nth = torch.einsum("ij,njh->nih", self.context_tt.to(h_nth.dtype), h_nth) * scale + first.bias
        h = h_nth.flatten(0, 1)
        for layer in rest:
            h = layer(h)
        return F.normalize(h, dim=1).view(*h_nth.shape[:2], -1)
