"""A pretrained encoder with a head that tells cell types apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._module import SSLModule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sc_ssl.nn import LogNormalize


class Head(SSLModule):
    """Standardises embeddings, which stand for ``"X"`` in its minibatches, and tells the types apart."""

    reads_counts = True
    mean_d: Tensor
    sd_d: Tensor
    class_weight_k: Tensor

    def __init__(self, n_latent: int, n_hidden: Sequence[int], n_classes: int, *, dropout_rate: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = n_latent
        for n in n_hidden:
            layers += [nn.Linear(width, n), nn.ReLU(), nn.Dropout(dropout_rate)]
            width = n
        self.layers = nn.Sequential(*layers, nn.Linear(width, n_classes))
        self.register_buffer("mean_d", torch.zeros(n_latent))
        self.register_buffer("sd_d", torch.ones(n_latent))
        self.register_buffer("class_weight_k", torch.ones(n_classes))

    def embed(self, cells: dict[str, Tensor]) -> Tensor:
        """The embedding as it is given."""
        return cells["X"]

    def logits(self, z_nd: Tensor) -> Tensor:
        """(n, n_latent) → (n, k)."""
        return self.layers((z_nd - self.mean_d) / self.sd_d)

    def ssl_loss(self, cells: dict[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy, cells weighed by their class."""
        return self.loss_of(self.embed(cells), cells["label"])

    def loss_of(self, z_nd: Tensor, label_n: Tensor) -> dict[str, Tensor]:
        """Cross-entropy at these embeddings."""
        return {"cross_entropy": F.cross_entropy(self.logits(z_nd), label_n, weight=self.class_weight_k)}


class CellClassifierModule(SSLModule):
    """A pretrained module and a head."""

    temperature: Tensor
    threshold: Tensor

    def __init__(self, *, encoder: SSLModule, head: Head) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.reads_counts = encoder.reads_counts
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("threshold", torch.zeros(()))

    @property
    def normalize(self) -> LogNormalize:  # type: ignore[override]
        """The encoder's: training, embedding and new cells share one path."""
        return self.encoder.normalize

    def embed(self, cells: dict[str, Tensor]) -> Tensor:
        """The encoder's embedding (n, n_latent)."""
        return self.encoder.embed(cells)

    def logits(self, cells: dict[str, Tensor]) -> Tensor:
        """Before calibration, (n, k)."""
        return self.head.logits(self.embed(cells))

    def proba(self, cells: dict[str, Tensor]) -> Tensor:
        """Calibrated probabilities (n, k); rows sum to 1."""
        return (self.logits(cells) / self.temperature).softmax(dim=1)

    def ssl_loss(self, cells: dict[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy, cells weighed by their class."""
        return self.head.loss_of(self.embed(cells), cells["label"])
