"""The network and the loss of mask-sc."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_ssl.losses import squared_error
from sc_ssl.models.base import SSLModule

from .patches import TokenMask, random_mask, to_patches
from .targets import on_the_sphere

if TYPE_CHECKING:
    from sc_ssl.nn import LogNormalize, Transformer

    from .decoders import BottleneckDecoder, MaskedDecoder
    from .patches import ConvPatchEmbed, LocalPatchEmbed
    from .targets import FrozenComponents, FrozenTeacher


#: targets that are found once for all cells, from their neighbour graph
OF_THE_GRAPH = ("diffusion", "diffusion+components")
#: hidden patches that are scored where the whole cell is predicted at each
N_SCORED = 8


class MaskSCModule(SSLModule):
    """Encode the visible patches of a cell; predict what a frozen encoder says at the hidden ones."""

    patch_genes_tp: Tensor

    def __init__(
        self,
        *,
        normalize: LogNormalize,
        frozen: FrozenComponents | FrozenTeacher | None,
        patch_genes_tp: Tensor,
        patch_embed: LocalPatchEmbed | ConvPatchEmbed,
        encoder: Transformer,
        decoder: MaskedDecoder | BottleneckDecoder,
        target: str,
        readout: str,
        mask_rate: float,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.frozen = frozen
        self.target = target
        self.patch_embed = patch_embed
        self.encoder = encoder
        self.decoder = decoder
        self.readout, self.mask_rate = readout, mask_rate
        width = encoder.norm.normalized_shape[0]
        self.cls_token = nn.Parameter(torch.randn(width) * 0.02)
        self.position = nn.Parameter(torch.randn(len(patch_genes_tp), width) * 0.02)
        self.register_buffer("patch_genes_tp", patch_genes_tp)

    def embed(self, cells: dict[str, Tensor]) -> Tensor:
        """The read-out with every patch visible, (n, d)."""
        encoded = self.encoder(self.tokens(self.patches(cells)))
        if self.readout == "cls":
            return encoded[:, 0]
        if self.readout == "mean":
            return encoded[:, 1:].mean(dim=1)
        every_nt = torch.arange(len(self.position), device=encoded.device).expand(len(encoded), -1)
        predicted = self.decoder(encoded, every_nt, every_nt).mean(dim=1)
        if self.target in OF_THE_GRAPH:
            return on_the_sphere(predicted)
        return F.normalize(predicted, dim=1) if self.target == "global" else predicted

    def loss_terms(self, cells: dict[str, Tensor]) -> dict[str, Tensor]:
        """Squared error between predicted and frozen features at the hidden patches."""
        x_ng = self.normalize(cells)
        patch_ntp = to_patches(x_ng, self.patch_genes_tp)
        target_ntc = cells["target"][:, None] if self.target in OF_THE_GRAPH else self.targets(x_ng, patch_ntp)
        visible_nv, hidden_nm = self.mask(*patch_ntp.shape[:2], patch_ntp.device)
        encoded = self.encoder(self.tokens(patch_ntp, visible_nv))
        if target_ntc.shape[1] == 1:  # the same target everywhere: a few patches say it all
            hidden_nm = hidden_nm[:, :N_SCORED]
            target_nmc = target_ntc.expand(-1, hidden_nm.shape[1], -1)
        else:
            target_nmc = _take(target_ntc, hidden_nm)
        return {"masked_features": squared_error(self.decoder(encoded, visible_nv, hidden_nm), target_nmc)}

    def mask(self, n_cells: int, n_patches: int, device: torch.device) -> TokenMask:
        """Which patches are seen and which scored: with a rate of 0, all of them both."""
        if self.mask_rate > 0:
            return random_mask(n_cells, n_patches, self.mask_rate, device)
        every_nt = torch.arange(n_patches, device=device).expand(n_cells, -1)
        return TokenMask(every_nt, every_nt)

    def patches(self, cells: dict[str, Tensor]) -> Tensor:
        """The cell as patches of z-scored, weighed genes, (n, t, p)."""
        return to_patches(self.normalize(cells), self.patch_genes_tp)

    def tokens(self, patch_ntp: Tensor, visible_nv: Tensor | None = None) -> Tensor:
        """The global token and one for each visible patch, with their positions, (n, 1 + v, d)."""
        token_ntd = self.patch_embed(patch_ntp) + self.position
        if visible_nv is not None:
            token_ntd = _take(token_ntd, visible_nv)
        return torch.cat([self.cls_token.expand(len(token_ntd), 1, -1), token_ntd], dim=1)

    @torch.no_grad()
    def targets(self, x_ng: Tensor, patch_ntp: Tensor) -> Tensor:
        """What the frozen encoder says at each patch, (n, t, features), or (n, 1, features) of the whole cell."""
        return patch_ntp if self.frozen is None else self.frozen(x_ng, patch_ntp)


def _take(token_ntd: Tensor, position_nm: Tensor) -> Tensor:
    """The tokens of each cell at these positions, (n, m, d)."""
    return token_ntd.gather(1, position_nm[..., None].expand(-1, -1, token_ntd.shape[2]))
