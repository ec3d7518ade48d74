"""What clustering autoencoders share: the autoencoder is trained first, then cluster centres together with it."""

from __future__ import annotations

from abc import abstractmethod
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import scanpy as sc
import torch
from anndata import AnnData
from scipy import sparse
from sklearn.cluster import KMeans
from torch import Tensor, nn

from sc_ssl._logging import logger
from sc_ssl._threads import own_threads, threads_kept
from sc_ssl.data import nearest_cells
from sc_ssl.losses import count_nll
from sc_ssl.models.base import Phase, SSLModel, SSLModule, TrainingDefaults
from sc_ssl.nn import MLP, CountDecoder
from sc_ssl.views import gaussian_noise

from .callback import ClusterWatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sc_ssl.data import Cells
    from sc_ssl.nn import LogNormalize


class CountAutoencoder(SSLModule):
    """Encode z-scored cells with noise on them; score the raw counts under the decoded distribution.

    The gene means of the training cells are where the decoder starts.
    """

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

    def embed(self, cells: Mapping[str, Tensor]) -> Tensor:
        """The bottleneck (n, n_latent), without noise."""
        return self.encoder(self.normalize(cells))

    def loss_terms(self, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Negative log-likelihood of the counts, and a ridge on π where it has a weight."""
        z_nd = self.encoder(gaussian_noise(self.normalize(cells), self.noise_sd))
        mean_ng, dispersion, zero_logits_ng = self.decoder(z_nd, cells["library_size"] / self.normalize.target_sum)
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


#: K-means runs, the best of which gives the first centres
N_INIT = 20
#: neighbours in the graph whose communities are counted when the number of clusters is not given
N_NEIGHBORS = 15


class ClusteringModule(SSLModule):
    """An autoencoder of counts with cluster centres in its latent space."""

    clustering: Tensor

    def __init__(self, *, autoencoder: CountAutoencoder, n_clusters: int | None, n_latent: int) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.center_kd = nn.Parameter(torch.zeros(n_clusters or 0, n_latent))
        # the phase: False while the autoencoder is trained alone
        self.register_buffer("clustering", torch.tensor(False))

    @property
    def normalize(self) -> LogNormalize:  # type: ignore[override]
        """The autoencoder's."""
        return self.autoencoder.normalize

    def embed(self, cells: Mapping[str, Tensor]) -> Tensor:
        """The bottleneck of the autoencoder (n, n_latent), without noise."""
        return self.autoencoder.embed(cells)

    @abstractmethod
    def assign(self, z_nd: Tensor) -> Tensor:
        """Probability of each cluster (n, k) at these points of the latent space; rows sum to 1."""

    def start(self, center_kd: Tensor) -> None:
        """Begin the second phase from these centres."""
        self.center_kd = nn.Parameter(center_kd.to(self.center_kd))
        self.clustering.fill_(True)

    def refresh(self, z_nd: Tensor) -> None:
        """Called between epochs of the second phase with the embedding of all cells."""


class ClusteringModel(SSLModel):
    """A model that trains an autoencoder of counts, then clusters; a subclass builds a :class:`ClusteringModule`."""

    module: ClusteringModule
    pretraining: TrainingDefaults
    _tolerance: float = 0.02

    def __init__(self, adata: AnnData | None, registry: dict[str, Any] | None, *, pretrain_epochs: int) -> None:
        super().__init__(adata, registry)
        if self.setup_arguments["input"] != "counts":
            raise ValueError(
                f"{type(self).__name__} models raw counts, found input={self.setup_arguments['input']!r}; register "
                "raw counts, or take a method that needs none, such as 'contrastive_sc'."
            )
        if not isinstance(pretrain_epochs, Integral) or pretrain_epochs < 1:
            raise ValueError(f"pretrain_epochs is an integer, at least 1, found {pretrain_epochs!r}.")
        self.pretraining = TrainingDefaults(
            max_epochs=int(pretrain_epochs),
            batch_size=256,
            min_steps=400,
            plan={"lr": 1e-3, "weight_decay": 1e-4, "warmup_rate": 0.05},
        )

    @own_threads()
    def train(
        self,
        max_epochs: int | None = None,
        *,
        tolerance: float = 0.02,
        **options: Any,
    ) -> None:
        """Train the autoencoder, then the clusters; a second call goes on where the first one ended.

        Between the phases K-means (the best of 20 runs) finds the first centres. After each epoch of the second phase
        all cells are assigned. It ends early when under 0.1 % of them have another cluster than ten epochs before. It
        also ends, and the best state comes back, when the clusters fall apart: when their silhouette among principal
        components of the normalised cells, which training does not touch, is well below its best. A cluster without
        cells starts again at the cell that is farthest from its centre, with a warning.

        Parameters
        ----------
        max_epochs
            Epochs of the second phase, and at most as many of the first; by default the method's own.
        tolerance
            How far that silhouette may fall, absolute, ≥ 0; ``math.inf`` lets the second phase run on, as the papers do.
        **options
            As of the other models: ``batch_size``, ``accelerator``, ``callbacks``, …, for the second phase.
        """
        self._tolerance = tolerance
        super().train(max_epochs, **options)

    def predict(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        soft: bool = False,
    ) -> np.ndarray:
        """Assign cells to clusters, by default the model's own cells; rows come in the order asked for.

        Parameters
        ----------
        adata, indices
            Cells, as in :meth:`get_latent_representation`.
        soft
            The probability of each cluster instead of the most probable one.

        Returns
        -------
        (n,) cluster of each cell, 0 … k − 1; if ``soft``, (n, k) float32, rows sum to 1.
        """
        proba_nk = self.assign(self.get_latent_representation(adata, indices))
        return proba_nk if soft else proba_nk.argmax(axis=1)

    @torch.inference_mode()
    def assign(self, embedding: np.ndarray) -> np.ndarray:
        """The probability of each cluster at points of the latent space: (n, n_latent) → (n, k) float32."""
        z_nd = torch.as_tensor(embedding, dtype=torch.float32, device=self.device)
        return self.module.assign(z_nd).cpu().numpy()

    @property
    def n_clusters(self) -> int | None:
        """Number of clusters k; ``None`` before it has been chosen."""
        return len(self.module.center_kd) or None

    def plain_init_params(self) -> dict[str, Any]:
        """The constructor's arguments, with the number of clusters once it has been chosen."""
        return super().plain_init_params() | {"n_clusters": self.n_clusters}

    def _check_n_clusters(self, n_clusters: Any) -> int | None:
        """Refuse what is no number of clusters for these cells, before anything is trained."""
        if n_clusters is not None and (not isinstance(n_clusters, Integral) or isinstance(n_clusters, bool)):
            raise TypeError(f"n_clusters is an integer, or None to choose it, found {n_clusters!r}.")
        wanted = 2 if n_clusters is None else int(n_clusters)
        if wanted < 2:
            raise ValueError(f"n_clusters is at least 2, found {n_clusters}.")
        if self._cells is not None and (found := _count_distinct(self._cells, wanted)) < wanted:
            raise ValueError(f"{wanted} clusters need as many distinct cells, found {found}; lower n_clusters.")
        return None if n_clusters is None else wanted

    def _build_autoencoder(
        self,
        n_hidden: Sequence[int],
        n_latent: int,
        *,
        noise_sd: float,
        dispersion_per: str,
        zero_inflated: bool = True,
        zero_ridge_weight: float = 0.0,
    ) -> CountAutoencoder:
        """Layer norm, not batch norm: the clean cells that are clustered are not those with noise that are trained on."""
        n_genes = len(self.var_names)
        return CountAutoencoder(
            normalize=self._normalizer(weigh_genes=False),  # as in both papers
            encoder=MLP(n_genes, n_hidden, n_latent, norm="layer"),
            decoder=CountDecoder(
                n_latent,
                n_hidden[::-1],
                n_genes,
                norm="layer",
                dispersion_per=dispersion_per,
                zero_inflated=zero_inflated,
            ),
            noise_sd=noise_sd,
            zero_ridge_weight=zero_ridge_weight,
        )

    def phases(self, max_epochs: int | None = None) -> Iterator[Phase]:
        """The autoencoder, until it is trained; then the clusters, from the first centres on."""
        cells = self._own_cells()
        if not self.module.clustering:
            logger.info("Training the autoencoder.")
            epochs = self.pretraining.epochs(cells.n_cells, min(self.pretraining.batch_size, cells.n_cells))
            n_epochs = min(epochs, max_epochs or epochs)
            autoencoder = self.module.autoencoder
            yield Phase(autoencoder, cells, self.pretraining, n_epochs, prefix="pretrain_", takes_options=False)
            self._find_centers()
            logger.info("Training %d clusters.", self.n_clusters)
        watch = ClusterWatch(self, tolerance=self._tolerance)
        yield Phase(self.module, cells, self.training, max_epochs, callbacks=[watch])

    def _find_centers(self) -> None:
        z_nd = self._map_cells(self.module.embed, None, None)
        n_clusters = self.n_clusters or self._choose_n_clusters(z_nd)
        seed = int(torch.randint(2**31, ()))
        kmeans = KMeans(n_clusters, n_init=N_INIT, random_state=seed).fit(z_nd)
        self.module.start(torch.as_tensor(kmeans.cluster_centers_))

    def _choose_n_clusters(self, z_nd: np.ndarray) -> int:
        """Number of Leiden communities at resolution 1 among the autoencoder's embeddings, at least 2; no labels."""
        neighbor_nk = nearest_cells(z_nd, N_NEIGHBORS)[:, 1:]
        n, k = neighbor_nk.shape
        graph = sparse.csr_matrix((np.ones(n * k), neighbor_nk.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
        cells = AnnData(sparse.csr_matrix((n, 1)))
        with threads_kept():
            sc.tl.leiden(
                cells, adjacency=graph.maximum(graph.T), flavor="igraph", n_iterations=2, directed=False, random_state=0
            )
        n_clusters = max(cells.obs["leiden"].nunique(), 2)
        logger.info("n_clusters was not given; Leiden at resolution 1 finds %d.", n_clusters)
        return n_clusters


def _count_distinct(cells: Cells, wanted: int) -> int:
    """How many different cells there are, counted up to the number wanted."""
    seen: set[tuple[bytes, bytes]] = set()
    for _, chunk in cells.chunks():
        for start, stop in zip(chunk.indptr, chunk.indptr[1:], strict=False):
            seen.add((chunk.indices[start:stop].tobytes(), chunk.data[start:stop].tobytes()))
            if len(seen) >= wanted:
                return len(seen)
    return len(seen)
