"""Expression as a model with a decoder says it, and how much of what was measured that explains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sc_ssl import _compat
from sc_ssl.data import obs_categories
from sc_ssl.metrics import explained_variance
from sc_ssl.train import seeded

from ._base import SSLModel
from ._cells_model import positions

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from anndata import AnnData

    from sc_ssl.data import Cells

    from .masked_autoencoder import MaskedAutoencoderModule


class ReconstructingModel(SSLModel):
    """A model whose decoder is told the cells' batch."""

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
        self._check_if_trained(warn=False)
        self._check_batches(self._adata if adata is None else adata, "it can only embed", indices)
        with seeded(random_state if masked else None):
            return self._map_cells(
                lambda cells: self.module.reconstruct(cells, masked=masked), adata, indices, batch_size
            )

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
        decoded_ng = self.get_reconstruction(adata, indices, batch_size, masked=masked, random_state=random_state)
        measured_ng = self._map_cells(self.module.normalize.log_expression, adata, indices, batch_size)
        return explained_variance(measured_ng, decoded_ng, weighted=weighted)

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
