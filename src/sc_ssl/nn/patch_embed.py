"""From the values of a patch's genes to a token."""

import torch
from torch import Tensor, nn


class LocalPatchEmbed(nn.Module):
    """A p × d matrix for each patch: every gene has its own vector, a patch is the sum of value × vector.

    Departs from the paper, whose convolution shares one kernel over all patches: genes are not pixels, and slot j of
    one patch has nothing to do with slot j of the next.
    """

    def __init__(self, n_patches: int, patch_size: int, width: int) -> None:
        super().__init__()
        self.weight_tpd = nn.Parameter(torch.empty(n_patches, patch_size, width))
        bound = (6 / (patch_size + width)) ** 0.5
        nn.init.uniform_(self.weight_tpd, -bound, bound)

    def forward(self, patch_ntp: Tensor) -> Tensor:
        """(n, t, p) → (n, t, d)."""
        return torch.einsum("ntp,tpd->ntd", patch_ntp, self.weight_tpd)


class ConvPatchEmbed(nn.Linear):
    """One p × d matrix for all patches, the paper's convolution of kernel and stride P."""

    def __init__(self, n_patches: int, patch_size: int, width: int) -> None:
        super().__init__(patch_size, width)
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)
