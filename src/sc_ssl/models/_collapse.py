"""Watching that an embedding does not collapse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from sc_ssl._logging import logger
from sc_ssl.data import evenly_spread

if TYPE_CHECKING:
    from ._base import SSLModel

#: cells that are looked at after each epoch
N_SAMPLED = 512
#: below this share of what d independent dimensions would have, the spread counts as none
MIN_SPREAD = 0.1
#: below it nearly all that differs between cells lies on one line
MIN_RANK = 1.5


class CollapseWatch(Callback):
    """After each epoch, logs how far an embedding spreads over cells and dimensions; warns at the end if it does not.

    Parameters
    ----------
    model
        The model in training.
    """

    def __init__(self, model: SSLModel) -> None:
        self.model = model

    def on_train_epoch_end(self, trainer: Trainer, plan: LightningModule) -> None:
        """Log ``embedding_spread`` and ``effective_rank`` of evenly spread cells."""
        n_cells = self.model._own_cells().n_cells
        z_nd = self.model._map_cells(plan.module.embed, None, evenly_spread(n_cells, N_SAMPLED))
        self._n_latent = z_nd.shape[1]
        self._spread, self._rank = embedding_spread(z_nd), effective_rank(z_nd)
        plan.log("embedding_spread", self._spread)
        plan.log("effective_rank", self._rank)

    def on_train_end(self, trainer: Trainer, plan: LightningModule) -> None:
        """Say when nothing is left of the differences between cells, or no more than one line."""
        expected = self._n_latent**-0.5
        if self._spread < MIN_SPREAD * expected or self._rank < min(MIN_RANK, self._n_latent):
            logger.warning(
                "The embedding has collapsed: its dimensions spread by %.1e, %.1e would be usual, and its effective "
                "rank is %.1f of %d. Lower the learning rate, strengthen the views or train longer.",
                self._spread,
                expected,
                self._rank,
                self._n_latent,
            )


def embedding_spread(z_nd: np.ndarray) -> float:
    """Mean standard deviation of the dimensions of unit vectors; ``1 / sqrt(d)`` when they point anywhere."""
    unit_nd = z_nd / np.maximum(np.linalg.norm(z_nd, axis=1, keepdims=True), 1e-12)
    return float(unit_nd.std(axis=0).mean())


def effective_rank(z_nd: np.ndarray) -> float:
    """Exponential of the entropy of the singular values of the centred embedding, 1 to d (Roy & Vetterli 2007)."""
    if not np.isfinite(z_nd).all():  # the training plan says so
        return float("nan")
    singular = np.linalg.svd(z_nd - z_nd.mean(axis=0), compute_uv=False).astype(np.float64)
    share = singular / max(singular.sum(), 1e-300)
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))
