"""The frozen contrastive encoders whose features MaskSC predicts."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_ssl.nn import MLP

from .contrastive_sc import ContrastiveSCModule


class FrozenTeachers(nn.Module):
    """Features of whole cells and of patches from one or more contrastive encoders; never trained as part of this.

    Parameters
    ----------
    encoders
        Contrastive modules over the same genes.
    patch_genes_tp
        Positions of each patch's genes, −1 for none.
    context_tt
        For features of patches: True where patch j belongs to what the teacher sees for patch i.
    n_trained
        How many of the encoders are trained already.
    """

    def __init__(
        self,
        encoders: list[ContrastiveSCModule],
        patch_genes_tp: Tensor,
        context_tt: Tensor | None,
        *,
        n_trained: int = 0,
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders).requires_grad_(False).eval()
        self.n_features = sum(_output_width(encoder.encoder) for encoder in encoders)
        self.register_buffer("n_trained", torch.tensor(n_trained))
        self.register_buffer("patch_genes_tp", patch_genes_tp)
        self.register_buffer("context_tt", context_tt)
        shape = (len(patch_genes_tp), self.n_features)
        self.register_buffer("mean_td", torch.zeros(shape) if context_tt is not None else None)
        self.register_buffer("sd_td", torch.ones(shape) if context_tt is not None else None)

    def train(self, mode: bool = True) -> "FrozenTeachers":
        """Always in eval mode: no dropout, batch norm fixed."""
        return super().train(False)

    @contextmanager
    def unfrozen(self, i: int) -> Iterator[ContrastiveSCModule]:
        """Encoder ``i``, trainable inside the block."""
        encoder = self.encoders[i].requires_grad_(True)
        try:
            yield encoder
        finally:
            encoder.requires_grad_(False).eval()

    def of_cells(self, cells: dict[str, Tensor]) -> Tensor:
        """Unit vectors (n, n_features) of whole cells: the teachers' own ones side by side."""
        return torch.cat([encoder.embed(cells) for encoder in self.encoders], dim=1) / len(self.encoders) ** 0.5

    def of_patches(self, patch_ntp: Tensor) -> Tensor:
        """Features (n, t, n_features) of each patch with its context, standardised per patch and dimension."""
        return (self._of_patches(patch_ntp) - self.mean_td) / self.sd_td

    def fit_scale(self, patches: Iterable[Tensor]) -> None:
        """Measure mean and sd per patch and dimension: the constant part says nothing about a cell."""
        n, total, squares = 0, torch.zeros_like(self.mean_td), torch.zeros_like(self.mean_td)
        for patch_ntp in patches:
            features = self._of_patches(patch_ntp)
            n, total, squares = n + len(features), total + features.sum(0), squares + features.square().sum(0)
        self.mean_td.copy_(total / n)
        self.sd_td.copy_((squares / n - self.mean_td.square()).clamp(min=1e-12).sqrt())

    def _of_patches(self, patch_ntp: Tensor) -> Tensor:
        # the first layer is linear: what a teacher sees of a set of patches is the sum of what it sees of each
        scale = len(self.context_tt) / self.context_tt.sum(dim=1)[:, None]
        features = []
        for encoder in self.encoders:
            first, *rest = encoder.encoder
            weight_ght = torch.cat([first.weight.T, first.weight.new_zeros(1, first.out_features)])[self.patch_genes_tp]
            h_nth = torch.einsum("ntp,tph->nth", patch_ntp, weight_ght)
            h_nth = torch.einsum("ij,njh->nih", self.context_tt.to(h_nth.dtype), h_nth) * scale + first.bias
            h = h_nth.flatten(0, 1)
            for layer in rest:
                h = layer(h)
            features.append(F.normalize(h, dim=1).view(*h_nth.shape[:2], -1))
        return torch.cat(features, dim=2)


def _output_width(encoder: MLP) -> int:
    return int(encoder[-1].out_features)
