"""Clusters of cells as labels to learn from, made anew while a model trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.metrics import normalized_mutual_info_score

from sc_ssl._threads import threads_kept

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from .scpretrain import ScPretrain


def kmeans_labels(x_nd: np.ndarray | csr_matrix, n_clusters: int, *, seed: int) -> np.ndarray:
    """Mini-batch K-means with no cluster left empty: the largest ones are split instead; (n,) 0 … k − 1.

    ``x_nd`` may be sparse, and stays so.
    """
    n_clusters = min(n_clusters, x_nd.shape[0])
    with threads_kept():
        model = MiniBatchKMeans(n_clusters, n_init=3, batch_size=1024, max_no_improvement=20, random_state=seed)
        label_n = model.fit_predict(x_nd).astype(np.int64)
        for empty in np.flatnonzero(np.bincount(label_n, minlength=n_clusters) == 0):
            largest = np.flatnonzero(label_n == np.bincount(label_n).argmax())
            half = _halves(x_nd[largest], seed)
            label_n[largest[half]] = empty
    return label_n


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


class Recluster(Callback):
    """Every few epochs clusters the cells anew in the latent space, and starts the heads and their optimiser again.

    The history gets, for each task (data set, mean cluster size), the accuracy in training, the agreement of the
    labels with those of the round before (0 in the first), and the entropy of the clusters' sizes.
    """

    def __init__(self, model: ScPretrain, *, every: int) -> None:
        self.model = model
        self.every = every

    def on_train_epoch_start(self, trainer: Trainer, plan: LightningModule) -> None:
        """A new round, when it is time."""
        module = self.model.module
        if int(module.n_epochs_of_round) >= self.every:
            self.model.label_cells(on_latent=True)
            for optimizer in trainer.optimizers:
                for parameter in module.heads.parameters():
                    optimizer.state.pop(parameter, None)
        module.right_bj.zero_()  # here and not at the end: an epoch may have been interrupted
        module.seen_bj.zero_()

    def on_train_epoch_end(self, trainer: Trainer, plan: LightningModule) -> None:
        """Count the epoch and log the tasks."""
        module = self.model.module
        module.n_epochs_of_round += 1
        right, seen = module.right_bj.cpu(), module.seen_bj.cpu()
        curves = {
            "accuracy": right / seen.clamp(min=1),
            "agreement": module.agreement_bj.cpu(),
            "entropy": module.entropy_bj.cpu(),
        }
        for name, value_bj in curves.items():
            for (b, j), task in self.model.tasks.items():
                plan.log(f"{name}_{task}", float(value_bj[b, j]))


def reset_heads(heads: torch.nn.ModuleList) -> None:
    """New random weights, in place: clusters come in another order each time, so old heads know nothing."""
    for head in heads:
        head.reset_parameters()
