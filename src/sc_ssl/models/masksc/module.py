"""The network of mask-sc and its loss: frozen features are predicted at the hidden patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_ssl.losses import squared_error
from sc_ssl.models.base import SSLModule

from .patches import TokenMask, random_mask, to_patches
from .targets import OF_THE_GRAPH, on_the_sphere

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sc_ssl.nn import LogNormalize, Transformer

    from .decoders import BottleneckDecoder, MaskedDecoder
    from .patches import ConvPatchEmbed, LocalPatchEmbed
    from .targets import FrozenComponents, FrozenTeacher


#: hidden patches that are scored where the whole cell is predicted at each
N_SCORED = 8


class MaskSCModule(SSLModule):
    """Encode the visible patches of a cell; predict the features of a frozen encoder at the hidden ones.

    Parameters
    ----------
    normalize
        From counts to weighed z-scores.
    frozen
        The encoder whose features are predicted; ``None`` predicts the expression of the patches.
    patch_genes_tp
        Positions of each patch's genes, −1 for none.
    patch_embed, encoder, decoder
        The trained network.
    n_place
        Dimensions of the prediction that are the place in the graph, for targets of the graph.
    target, readout, mask_rate
        As of :class:`MaskSC`.
    """

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
        n_place: int,
        readout: str,
        mask_rate: float,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.frozen = frozen
        self.target, self.n_place = target, n_place
        self.patch_embed = patch_embed
        self.encoder = encoder
        self.decoder = decoder
        self.readout, self.mask_rate = readout, mask_rate
        width = encoder.norm.normalized_shape[0]
        # small at the start, as in a masked autoencoder: expression outweighs position
        self.cls_token = nn.Parameter(torch.randn(width) * 0.02)
        self.position = nn.Parameter(torch.randn(len(patch_genes_tp), width) * 0.02)
        self.register_buffer("patch_genes_tp", patch_genes_tp)

    def embed(self, cells: Mapping[str, Tensor]) -> Tensor:
        """The read-out with every patch visible, (n, d)."""
        encoded = self.encoder(self.tokens(self.patches(cells)))
        if self.readout == "cls":
            return encoded[:, 0]
        if self.readout == "mean":
            return encoded[:, 1:].mean(dim=1)
        # every patch visible and every patch predicted: (n, t, c), whose mean over patches is the cell's
        every_nt = torch.arange(len(self.position), device=encoded.device).expand(len(encoded), -1)
        predicted = self.decoder(encoded, every_nt, every_nt).mean(dim=1)
        if self.target in OF_THE_GRAPH:
            return on_the_sphere(predicted, self.n_place)
        return F.normalize(predicted, dim=1) if self.target == "global" else predicted

    def loss_terms(self, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Squared error between predicted and frozen features at the hidden patches."""
        # the target of each patch (n, t, c), or of the whole cell (n, 1, c)
        x_ng = self.normalize(cells)
        patch_ntp = to_patches(x_ng, self.patch_genes_tp)
        target_ntc = cells["target"][:, None] if self.target in OF_THE_GRAPH else self.targets(x_ng, patch_ntp)
        # encode a quarter of the patches; the others never reach the encoder
        visible_nv, hidden_nm = self.mask(*patch_ntp.shape[:2], patch_ntp.device)
        encoded = self.encoder(self.tokens(patch_ntp, visible_nv))
        if target_ntc.shape[1] == 1:  # the same target at every patch: a few of them are enough
            hidden_nm = hidden_nm[:, :N_SCORED]
            target_nmc = target_ntc.expand(-1, hidden_nm.shape[1], -1)
        else:
            target_nmc = _take(target_ntc, hidden_nm)
        return {"masked_features": squared_error(self.decoder(encoded, visible_nv, hidden_nm), target_nmc)}

    def mask(self, n_cells: int, n_patches: int, device: torch.device) -> TokenMask:
        """Which patches are visible and which scored: with a rate of 0, all of them both."""
        if self.mask_rate > 0:
            return random_mask(n_cells, n_patches, self.mask_rate, device)
        every_nt = torch.arange(n_patches, device=device).expand(n_cells, -1)
        return TokenMask(every_nt, every_nt)

    def patches(self, cells: Mapping[str, Tensor]) -> Tensor:
        """The cell as patches of z-scored, weighed genes, (n, t, p)."""
        return to_patches(self.normalize(cells), self.patch_genes_tp)

    def tokens(self, patch_ntp: Tensor, visible_nv: Tensor | None = None) -> Tensor:
        """The global token and one for each visible patch, with their positions, (n, 1 + v, d)."""
        # positions before patches are taken out, so that each token keeps its own
        token_ntd = self.patch_embed(patch_ntp) + self.position
        if visible_nv is not None:
            token_ntd = _take(token_ntd, visible_nv)
        # (d,) → (n, 1, d), joined to (n, v, d)
        return torch.cat([self.cls_token.expand(len(token_ntd), 1, -1), token_ntd], dim=1)

    @torch.no_grad()
    def targets(self, x_ng: Tensor, patch_ntp: Tensor) -> Tensor:
        """Frozen features of each patch, (n, t, features), or of the whole cell, (n, 1, features)."""
        return patch_ntp if self.frozen is None else self.frozen(x_ng, patch_ntp)


def _take(token_ntd: Tensor, position_nm: Tensor) -> Tensor:
    """The tokens of each cell at these positions, (n, m, d)."""
    # (n, m) → (n, m, d): the same position in every dimension
    return token_ntd.gather(1, position_nm[..., None].expand(-1, -1, token_ntd.shape[2]))
