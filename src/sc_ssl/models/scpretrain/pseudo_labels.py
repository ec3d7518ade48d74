"""Pseudo-labels: clusters of cells as labels to learn from, found again and again while a model trains."""

from __future__ import annotations

from importlib.util import find_spec
from numbers import Integral
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.metrics import normalized_mutual_info_score

from sc_ssl._checks import check_choice
from sc_ssl._threads import threads_kept
from sc_ssl.data import principal_components

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scipy.sparse import csr_matrix
    from torch import Tensor

    from sc_ssl.data import Cells

    from .module import ScPretrainModule


KMeansBy = Literal["minibatch", "faiss"]
#: principal components in which the first labels are made
N_COMPONENTS = 50


def check_cluster_numbers(
    n_clusters_bj: Sequence[Sequence[int]], names: Sequence[str], n_sizes: int, batch_n: np.ndarray
) -> None:
    """An error unless each data set has a number of clusters for each mean size, from 2 to the number of its cells."""
    found = np.asarray(n_clusters_bj, dtype=object)
    if found.shape != (len(names), n_sizes) or not all(isinstance(k, Integral) for k in found.flat):
        raise ValueError(
            f"n_clusters has a row for each of {len(names)} data sets with a whole number for each of {n_sizes} mean sizes, "
            f"found {n_clusters_bj}."
        )
    for name, k_j, n in zip(names, n_clusters_bj, np.bincount(batch_n, minlength=len(names)), strict=True):
        if min(k_j) < 2 or max(k_j) > n:
            raise ValueError(
                f"data set {name!r} of {n} cells can have 2 to {n} clusters, found n_clusters {list(k_j)}."
            )


def cluster_numbers(batch_n: np.ndarray, n_batch: int, cells_per_cluster: Sequence[int]) -> list[list[int]]:
    """Clusters of each data set at each mean size, at least 2."""
    n_b = np.bincount(batch_n, minlength=n_batch)
    return [[max(2, int(n // size)) for size in cells_per_cluster] for n in n_b]


def first_space(cells: Cells, cluster_on: str, *, log_input: bool) -> np.ndarray | csr_matrix:
    """Where one data set is clustered first: its own principal components (``"pca"``), or its counts (``"raw"``)."""
    if cluster_on == "raw":
        return cells.matrix
    return principal_components(cells, n_comps=N_COMPONENTS, log_input=log_input)


def kmeans_labels(
    x_nd: np.ndarray | csr_matrix, n_clusters: int, *, seed: int, kmeans: KMeansBy = "minibatch"
) -> np.ndarray:
    """K-means with no cluster left empty: the largest ones are split instead; (n,) 0 … k − 1.

    For mini-batches ``x_nd`` may be sparse, and stays so.
    """
    n_clusters = min(n_clusters, x_nd.shape[0])
    with threads_kept():
        if kmeans == "faiss":
            label_n = _faiss_labels(x_nd, n_clusters, seed)
        else:
            model = MiniBatchKMeans(n_clusters, n_init=3, batch_size=1024, max_no_improvement=20, random_state=seed)
            label_n = model.fit_predict(x_nd).astype(np.int64)
        for empty in np.flatnonzero(np.bincount(label_n, minlength=n_clusters) == 0):
            largest = np.flatnonzero(label_n == np.bincount(label_n).argmax())
            half = _halves(x_nd[largest], seed)
            label_n[largest[half]] = empty
    return label_n


def check_kmeans(kmeans: str, cluster_on: str) -> None:
    """An error when faiss is asked for and would need all counts dense."""
    check_choice("kmeans", kmeans, get_args(KMeansBy))
    if kmeans == "faiss" and cluster_on == "raw":
        raise ValueError("kmeans='faiss' takes dense input; take cluster_on='pca', or kmeans='minibatch'.")


def require_faiss(kmeans: str) -> None:
    """An error when faiss is asked for and is not there: to train, not to embed with a model that was trained by it."""
    if kmeans == "faiss" and find_spec("faiss") is None:
        raise ImportError("kmeans='faiss' needs faiss, which is not installed: pip install \"sc_ssl[faiss]\".")


def _faiss_labels(x_nd: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    import faiss

    x_nd = np.ascontiguousarray(x_nd, dtype=np.float32)
    model = faiss.Kmeans(x_nd.shape[1], n_clusters, seed=seed, nredo=3, min_points_per_centroid=1)
    model.train(x_nd)
    return model.index.search(x_nd, 1)[1][:, 0].astype(np.int64)


def _halves(x_nd: np.ndarray | csr_matrix, seed: int) -> np.ndarray:
    """Which cells go into the second of two clusters, (n,) bool; cells that are all alike are cut in the middle."""
    first = x_nd[:1] if isinstance(x_nd, np.ndarray) else x_nd[np.zeros(x_nd.shape[0], int)]
    if not abs(x_nd - first).sum():
        return np.arange(x_nd.shape[0]) % 2 == 1
    return KMeans(2, n_init=1, random_state=seed).fit_predict(x_nd) == 1


def cluster_entropy(label_n: np.ndarray, n_clusters: int) -> float:
    """Entropy of the clusters' sizes as a share of its maximum, ln k, in [0, 1]."""
    share_k = np.bincount(label_n) / len(label_n)
    share_k = share_k[share_k > 0]
    return float(-(share_k * np.log(share_k)).sum() / np.log(n_clusters))


def agreement(old_n: np.ndarray, new_n: np.ndarray) -> float:
    """Normalised mutual information of two clusterings; names of clusters do not matter, as K-means permutes them."""
    return float(normalized_mutual_info_score(old_n, new_n))


def label_study(
    x_md: np.ndarray | csr_matrix,
    n_clusters_j: Sequence[int],
    old_mj: np.ndarray | None,
    kmeans: KMeansBy = "minibatch",
) -> tuple[np.ndarray, Tensor, Tensor]:
    """Cluster the cells of one data set at every size, with seeds from torch's random state.

    Returns labels (m, j), and for each clustering its entropy and its agreement with the old labels, 0 without, (j,).
    """
    seeds = [int(torch.randint(2**31, ())) for _ in n_clusters_j]
    new_jm = [kmeans_labels(x_md, k, seed=seed, kmeans=kmeans) for k, seed in zip(n_clusters_j, seeds, strict=True)]
    new_mj = np.stack(new_jm, axis=1)
    entropy_j = [cluster_entropy(new_m, k) for new_m, k in zip(new_mj.T, n_clusters_j, strict=True)]
    agreement_j = [0.0] * len(entropy_j) if old_mj is None else list(map(agreement, old_mj.T, new_mj.T))
    return new_mj, torch.tensor(entropy_j), torch.tensor(agreement_j)


class Recluster(Callback):
    """Every few epochs clusters the cells again in the latent space, and starts the heads and their optimiser again.

    The history gets, for each task (data set, mean cluster size), the accuracy in training, the agreement of the
    labels with those of the round before (0 in the first), and the entropy of the clusters' sizes.

    Parameters
    ----------
    module
        What is trained.
    relabel
        Clusters all cells in the latent space and starts the module's next round.
    tasks
        Name of each task by the positions of its data set and mean cluster size.
    every
        Epochs of a round.
    """

    def __init__(
        self, module: ScPretrainModule, relabel: Callable[[], None], *, tasks: dict[tuple[int, int], str], every: int
    ) -> None:
        self.module, self.relabel = module, relabel
        self.tasks, self.every = tasks, every

    def on_train_epoch_start(self, trainer: Trainer, plan: LightningModule) -> None:
        """A new round, when it is time."""
        module = self.module
        if int(module.n_epochs_of_round) >= self.every:
            self.relabel()
            for optimizer in trainer.optimizers:
                for parameter in module.heads.parameters():
                    optimizer.state.pop(parameter, None)
        module.right_bj.zero_()  # here and not at the end: an epoch may have been interrupted
        module.seen_bj.zero_()

    def on_train_epoch_end(self, trainer: Trainer, plan: LightningModule) -> None:
        """Count the epoch and log the tasks."""
        module = self.module
        module.n_epochs_of_round += 1
        right, seen = module.right_bj.cpu(), module.seen_bj.cpu()
        curves = {
            "accuracy": right / seen.clamp(min=1),
            "agreement": module.agreement_bj.cpu(),
            "entropy": module.entropy_bj.cpu(),
        }
        for name, value_bj in curves.items():
            for (b, j), task in self.tasks.items():
                plan.log(f"{name}_{task}", float(value_bj[b, j]))
