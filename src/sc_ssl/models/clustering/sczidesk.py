"""scziDesk (Chen et al. 2020, NAR Genomics and Bioinformatics 2:lqaa039)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from anndata import AnnData
from torch import Tensor

from sc_ssl.losses import pairwise_similarity_kl, soft_kmeans, squared_distance
from sc_ssl.models.base import TrainingDefaults

from .base import ClusteringModel, ClusteringModule, CountAutoencoder


class ScziDeskModule(ClusteringModule):
    """Cells move towards near centres and towards the cells that they resemble, while their counts can be reconstructed."""

    def __init__(
        self,
        *,
        autoencoder: CountAutoencoder,
        n_clusters: int | None,
        n_latent: int,
        kmeans_weight: float,
        similarity_weight: float,
    ) -> None:
        super().__init__(autoencoder=autoencoder, n_clusters=n_clusters, n_latent=n_latent)
        self.kmeans_weight = kmeans_weight
        self.similarity_weight = similarity_weight

    def assign(self, z_nd: Tensor) -> Tensor:
        """Softmax of the negative squared distances to the centres, (n, k)."""
        return (-squared_distance(z_nd, self.center_kd)).softmax(dim=1)

    def loss_terms(self, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weighted soft K-means, self-training on pairwise similarities, and the autoencoder's loss."""
        z_nd = self.embed(cells)
        return {
            "soft_kmeans": self.kmeans_weight * soft_kmeans(z_nd, self.center_kd),
            "similarity_kl": self.similarity_weight * pairwise_similarity_kl(z_nd),
            **self.autoencoder.loss_terms(cells),
        }


class ScziDesk(ClusteringModel):
    """scziDesk: deep soft K-means clustering of counts, with a number of clusters given or chosen.

    Key ``X_sczidesk``. An autoencoder of cells with noise on them is trained under a zero-inflated negative binomial
    likelihood. K-means on its latent space gives the centres. The second phase adds two losses to the likelihood: a
    soft K-means in which near centres count more, and a KL divergence that makes the similarities between the cells of
    a minibatch sharper. With ``n_clusters=None`` Leiden at resolution 1 on the trained autoencoder's latent space gives
    the number, without labels.

    Parameters
    ----------
    adata
        Cells registered with :meth:`setup_anndata`; raw counts.
    registry
        Instead of ``adata``: the registry of a saved model.
    n_clusters
        Number of clusters k, at least 2 and at most that of distinct cells; ``None`` chooses it.
    n_hidden
        Widths of the encoder's hidden layers; the decoder's are the same in reverse.
    n_latent
        Dimension of the embedding.
    noise_sd
        Standard deviation of the noise on the z-scored genes, ≥ 0; 0 is what the authors' code appears to do.
    dispersion_per
        ``"gene"``; ``"entry"`` predicts one for each gene of each cell (paper).
    zero_ridge_weight
        Of the mean of π², the zero inflation's probabilities.
    pretrain_epochs
        Epochs of the autoencoder alone for up to 20,000 cells, fewer above, and at least 400 steps.
    kmeans_weight, similarity_weight
        Of both clustering losses (means over cells) against the likelihood (mean over cells and genes).

    Notes
    -----
    Differences from the authors' code:

    * Noise: it appears to be switched off in training there; here it is applied.
    * Similarity loss: a sum over cells there; here a mean, at a weight that is the same for their batches of 256, so that
      the batch size does not matter.
    * Second phase: here it goes back to a better state when the clusters fall apart, see :meth:`train`.
    * Number of clusters: read off the labels there; here given or chosen.
    * Dispersion: one for each entry there; here one a gene.
    * Network and optimiser: here layer norm, a decoder that starts at the genes' means, AdamW on shuffled minibatches.

    References
    ----------
    Chen et al. (2020), Deep soft K-means clustering with self-training for single-cell RNA sequence data, NAR Genomics
    and Bioinformatics 2:lqaa039.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> sc_ssl.models.ScziDesk.setup_anndata(adata)
    >>> model = sc_ssl.models.ScziDesk(adata, n_clusters=8)
    >>> model.train()
    >>> model.get_latent_representation().shape
    (700, 32)
    """

    training = TrainingDefaults(max_epochs=40, batch_size=256, plan={"lr": 1e-4, "schedule": "constant"})
    module: ScziDeskModule

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        n_clusters: int | None = None,
        n_hidden: Sequence[int] = (256, 64),
        n_latent: int = 32,
        noise_sd: float = 1.5,
        dispersion_per: Literal["gene", "entry"] = "gene",
        zero_ridge_weight: float = 1.0,
        pretrain_epochs: int = 60,
        kmeans_weight: float = 1e-3,
        similarity_weight: float = 0.25,
    ) -> None:
        super().__init__(adata, registry, pretrain_epochs=pretrain_epochs)
        n_clusters = self._check_n_clusters(n_clusters)
        self.module = ScziDeskModule(
            autoencoder=self._build_autoencoder(
                n_hidden,
                n_latent,
                noise_sd=noise_sd,
                dispersion_per=dispersion_per,
                zero_ridge_weight=zero_ridge_weight,
            ),
            n_clusters=n_clusters,
            n_latent=n_latent,
            kmeans_weight=kmeans_weight,
            similarity_weight=similarity_weight,
        )
        self.init_params_ = self._get_init_params(locals())
