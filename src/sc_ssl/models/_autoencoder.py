"""The denoising autoencoder of counts that scDeepCluster and scziDesk train first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from sc_ssl.losses import count_nll
from sc_ssl.views import gaussian_noise

from ._module import SSLModule

if TYPE_CHECKING:
    from torch import Tensor

    from sc_ssl.nn import MLP, CountDecoder, LogNormalize


class CountAutoencoder(SSLModule):
    """Encode z-scored cells with noise on them; score the raw counts by the distribution that the decoder says.

    The gene means of the training cells are where the decoder starts.
    """

    reads_counts = True

    def __init__(
        self,
        *,
        normalize: LogNormalize,
        encoder: MLP,
        decoder: CountDecoder,
        noise_sd: float,
        zero_ridge_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.encoder = encoder
        self.decoder = decoder
        self.noise_sd = noise_sd
        self.zero_ridge_weight = zero_ridge_weight
        decoder.start_at(torch.expm1(normalize.mean_bg[0]))

    def embed(self, cells: dict[str, Tensor]) -> Tensor:
        """The bottleneck (n, n_latent), without noise."""
        return self.encoder(self.normalize(cells))

    def ssl_loss(self, cells: dict[str, Tensor]) -> dict[str, Tensor]:
        """Negative log-likelihood of the counts, and a ridge on π where it has a weight."""
        z_nd = self.encoder(gaussian_noise(self.normalize(cells), self.noise_sd))
        mean_ng, dispersion, zero_logits_ng = self.decoder(z_nd, cells["size_factor"] / self.normalize.target_sum)
        x_ng = cells["X"]
        if "measured" in cells:  # what was not measured is no zero
            measured_g = cells["measured"]
            x_ng, mean_ng, dispersion = x_ng[:, measured_g], mean_ng[:, measured_g], dispersion[..., measured_g]
            zero_logits_ng = None if zero_logits_ng is None else zero_logits_ng[:, measured_g]
        name = "nb" if zero_logits_ng is None else "zinb"
        terms = {name: count_nll(x_ng, mean_ng, dispersion, zero_logits_ng)}
        if zero_logits_ng is not None and self.zero_ridge_weight:
            terms["zero_ridge"] = self.zero_ridge_weight * zero_logits_ng.sigmoid().square().mean()
        return terms
