"""Expression as a model with a decoder says it, and how much of what was measured that explains."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from sc_ssl import _compat
from sc_ssl.data import obs_categories
from sc_ssl.metrics import explained_variance
from sc_ssl.train import seeded

from ._base import SSLModel
from ._cells_model import positions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from anndata import AnnData
    from torch import Tensor

    from sc_ssl.data import Cells

    from .masked_autoencoder import MaskedAutoencoderModule


class ReconstructingModel(SSLModel):
    """What the decoder of a masked autoencoder says, which is told the cells' batch."""

    module: MaskedAutoencoderModule

    def get_reconstruction(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        batch_size: int | None = None,
        *,
        masked: bool = False,
        random_state: int | np.random.Generator | None = 0,
    ) -> np.ndarray:
        """Log-normalised expression as the decoder says it, ``log1p(target_sum · x / library)``.

        Under a likelihood of counts, the logarithm of the expected counts at that library size.

        Parameters
        ----------
        adata, indices, batch_size
            Cells, as in :meth:`get_latent_representation`.
        masked
            Show the encoder what the mask of training shows; entries that the mask does not score are NaN.
        random_state
            Seed of the masks; the caller's random state is left alone.

        Returns
        -------
        (n, n_genes), float32, in the order of the model's genes.

        Raises
        ------
        ValueError
            Cells of a batch that the decoder was not trained on.
        """
        decode = partial(self.module.reconstruct, masked=masked)
        return self._map_decoded(decode, adata, indices, batch_size, random_state)

    def get_explained_variance(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        batch_size: int | None = None,
        *,
        masked: bool = False,
        weighted: bool = True,
        random_state: int | np.random.Generator | None = 0,
    ) -> float:
        """Share of the variance of log-normalised expression that :meth:`get_reconstruction` explains, at most 1.

        Parameters
        ----------
        adata, indices, batch_size
            Cells, as in :meth:`get_latent_representation`; best those that the model was not trained on.
        masked
            Of what the mask of training scores, from what it shows; else of all genes from all of them.
        weighted
            Each gene by its variance, else all genes alike: :func:`sc_ssl.metrics.explained_variance`.
        random_state
            Seed of the masks; the caller's random state is left alone.

        Raises
        ------
        ValueError
            Cells of a batch that the decoder was not trained on.
        """

        def measured_and_decoded(cells: dict[str, Tensor]) -> Tensor:
            measured_ng = self.module.normalize.log_expression(cells)
            return torch.stack([measured_ng, self.module.reconstruct(cells, masked=masked)], dim=1)

        both_n2g = self._map_decoded(measured_and_decoded, adata, indices, batch_size, random_state)
        return explained_variance(both_n2g[:, 0], both_n2g[:, 1], weighted=weighted)

    def _map_decoded(
        self,
        function: Callable[[dict[str, Tensor]], Tensor],
        adata: AnnData | None,
        indices: Sequence[int] | np.ndarray | None,
        batch_size: int | None,
        random_state: int | np.random.Generator | None,
    ) -> np.ndarray:
        """Apply what decodes to cells of batches that the decoder knows, masks drawn by the seed."""
        self._check_if_trained(warn=False)
        self._check_batches(self._adata if adata is None else adata, "it can only embed", indices)
        with seeded(random_state):
            return self._map_cells(function, adata, indices, batch_size)

    def _training_cells(self, **fit_options: Any) -> Cells:
        """The model's cells, of batches that the decoder knows."""
        cells = super()._training_cells(**fit_options)
        self._check_batches(self._adata, "it cannot be trained on them, only embed")
        return cells

    def _check_batches(
        self, adata: AnnData | None, verdict: str, indices: Sequence[int] | np.ndarray | None = None
    ) -> None:
        key = self.setup_arguments["batch_key"]
        if adata is None or self.summary_stats.n_batch < 2:
            return
        names = obs_categories(adata, key)[positions(adata.n_obs, indices)].unique()
        unseen = names[~names.isin(_compat.registered_batches(self.registry_))]
        if len(unseen):
            raise ValueError(
                f"the decoder was built for other batches than {', '.join(map(repr, unseen[:5]))} in obs[{key!r}], so that "
                f"{verdict} their cells; train a new model on all."
            )
