"""scDeepCluster (Tian et al. 2019, Nature Machine Intelligence 1:191)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from anndata import AnnData
from torch import Tensor

from sc_ssl._checks import check_choice
from sc_ssl.losses import assignment_kl, student_t_assignment, target_distribution
from sc_ssl.models.base import TrainingDefaults

from .base import ClusteringModel, ClusteringModule, CountAutoencoder


class ScDeepClusterModule(ClusteringModule):
    """Cells move towards a sharper version of their own assignment to the centres, while their counts can be reconstructed."""

    frequency_k: Tensor

    def __init__(
        self, *, autoencoder: CountAutoencoder, n_clusters: int | None, n_latent: int, kl_weight: float
    ) -> None:
        super().__init__(autoencoder=autoencoder, n_clusters=n_clusters, n_latent=n_latent)
        self.kl_weight = kl_weight
        self.register_buffer("frequency_k", torch.ones(n_clusters or 0))

    def assign(self, z_nd: Tensor) -> Tensor:
        """Student-t similarity to each centre, (n, k); rows sum to 1."""
        return student_t_assignment(z_nd, self.center_kd)

    def loss_terms(self, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """KL divergence of the assignment from its target, and the autoencoder's loss."""
        q_nk = self.assign(self.embed(cells))
        p_nk = target_distribution(q_nk, self.frequency_k)
        return {"cluster_kl": self.kl_weight * assignment_kl(p_nk, q_nk), **self.autoencoder.loss_terms(cells)}

    def start(self, center_kd: Tensor) -> None:
        """Begin from these centres, all clusters taken as equally frequent until the first refresh."""
        super().start(center_kd)
        self.frequency_k = torch.ones_like(self.center_kd[:, 0])

    def refresh(self, z_nd: Tensor) -> None:
        """Re-estimate how frequent each cluster is among all cells."""
        self.frequency_k.copy_(self.assign(z_nd).mean(dim=0))


class ScDeepCluster(ClusteringModel):
    """scDeepCluster: model-based deep clustering of counts, with a number of clusters given or chosen.

    Key ``X_scdeepcluster``. An autoencoder of cells with noise on them is trained under a zero-inflated negative
    binomial likelihood. K-means on its latent space gives the centres; cells are then drawn to a target ``p ∝ q² / f``
    that is sharper than their assignment q, f the clusters' frequencies, while the likelihood goes on. With
    ``n_clusters=None`` Leiden at resolution 1 on the trained autoencoder's latent space gives the number, without labels.

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
        Standard deviation of the noise on the z-scored genes, ≥ 0; the paper's is 2.5.
    likelihood
        ``"zinb"``, or ``"nb"`` without zero inflation.
    dispersion_per
        ``"gene"``; ``"entry"`` predicts one for each gene of each cell (paper).
    pretrain_epochs
        Epochs of the autoencoder alone for up to 20,000 cells, fewer above, and at least 400 steps.
    kl_weight
        γ, of the clustering loss (mean over cells) against the likelihood (mean over cells and genes).

    Notes
    -----
    Differences from the authors' code:

    * Target: cluster frequencies f are counted over all cells every epoch as there, but q in the target is the present
      one, so that no target is kept for each cell.
    * Second phase: here it goes back to a better state when the clusters fall apart, see :meth:`train`.
    * Dispersion: one for each entry there; here one a gene.
    * Network: here layer norm, and a decoder that starts at the genes' means; noise on the input alone.
    * Optimiser: Adadelta on a fixed order in float64 there; here AdamW on shuffled minibatches in float32.

    References
    ----------
    Tian et al. (2019), Clustering single-cell RNA-seq data with a model-based deep learning approach, Nature Machine
    Intelligence 1:191.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> sc_ssl.models.ScDeepCluster.setup_anndata(adata)
    >>> model = sc_ssl.models.ScDeepCluster(adata, n_clusters=8)
    >>> model.train()
    >>> model.get_latent_representation().shape
    (700, 32)
    """

    training = TrainingDefaults(max_epochs=40, batch_size=256, plan={"lr": 1e-3, "schedule": "constant"})
    module: ScDeepClusterModule

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        n_clusters: int | None = None,
        n_hidden: Sequence[int] = (256, 64),
        n_latent: int = 32,
        noise_sd: float = 2.5,
        likelihood: Literal["zinb", "nb"] = "zinb",
        dispersion_per: Literal["gene", "entry"] = "gene",
        pretrain_epochs: int = 60,
        kl_weight: float = 1.0,
    ) -> None:
        super().__init__(adata, registry, pretrain_epochs=pretrain_epochs)
        n_clusters = self._check_n_clusters(n_clusters)
        check_choice("likelihood", likelihood, ("zinb", "nb"))
        self.module = ScDeepClusterModule(
            autoencoder=self._build_autoencoder(
                n_hidden,
                n_latent,
                noise_sd=noise_sd,
                dispersion_per=dispersion_per,
                zero_inflated=likelihood == "zinb",
            ),
            n_clusters=n_clusters,
            n_latent=n_latent,
            kl_weight=kl_weight,
        )
        self.init_params_ = self._get_init_params(locals())
