"""Following the clusters of all cells through a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from sklearn.decomposition import TruncatedSVD
from sklearn.metrics import pairwise_distances, silhouette_score

from sc_ssl._logging import logger

if TYPE_CHECKING:
    from torch import Tensor

    from sc_ssl.models.base import SSLModel


#: cells in which, and components of the PCA by which, the silhouette is taken
N_SAMPLED, N_COMPONENTS = 2000, 20
#: training ends when under this share of the cells has another cluster than so many epochs before: the rule of both
#: papers, over ten epochs as in scziDesk
MIN_CHANGE, N_EPOCHS = 1e-3, 10


class ClusterWatch(Callback):
    """After every epoch, embeds all cells without noise, assigns them to clusters and draws the conclusions.

    * The module refreshes what it keeps of all cells.
    * A cluster that has lost all its cells starts again at the cell that is farthest from its own centre.
    * Training ends when under 0.1 % of the cells have another cluster than ten epochs before.
    * The clusters' silhouette in a space that training does not touch (PCA of the z-scored genes, unit vectors) is
      followed. When it falls by more than ``tolerance`` below its best, the clusters fall apart: the best state comes
      back and training ends. No labels are used.

    The history gets ``cluster_change`` (share of the cells that changed cluster in the epoch) and
    ``cluster_silhouette``.

    Parameters
    ----------
    model
        A model in its second phase.
    tolerance
        Of the silhouette, absolute.
    """

    def __init__(self, model: SSLModel, *, tolerance: float = 0.02) -> None:
        if not tolerance >= 0:
            raise ValueError(f"tolerance is at least 0, found {tolerance}.")
        self.model = model
        self.tolerance = tolerance
        self._labels: list[np.ndarray] = []

    def state_dict(self) -> dict[str, Any]:
        """What a training that is resumed needs: the cells sampled, recent clusters, the best state; plain values."""
        silhouette, best = self._best
        labels = [torch.as_tensor(label_n) for label_n in self._labels]
        return {"sample": torch.as_tensor(self._sample), "labels": labels, "silhouette": silhouette, "best": best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it up."""
        self._sample, self._labels = state["sample"].numpy(), [label_n.numpy() for label_n in state["labels"]]
        self._best = state["silhouette"], state["best"]

    def on_train_start(self, trainer: Trainer, plan: LightningModule) -> None:
        """Lay out the space, and look at the clusters as they are before any step."""
        resumed = bool(self._labels)
        if not resumed:
            self._sample = torch.randperm(self.model.n_cells)[:N_SAMPLED].sort().values.numpy()
        self._distance_mm = _cosine_distances(
            self.model._map_cells(self.model.module.normalize, None, self._sample, finite=False)
        )
        if not resumed:
            self._labels = [self._look()]
            self._best = self._silhouette(), self._state()

    def on_train_epoch_end(self, trainer: Trainer, plan: LightningModule) -> None:
        """Look again; stop when nothing moves any more, go back when the clusters fall apart."""
        self._labels = [*self._labels[-N_EPOCHS:], self._look()]
        silhouette = self._silhouette()
        plan.log("cluster_change", float(np.mean(self._labels[-1] != self._labels[-2])))
        plan.log("cluster_silhouette", silhouette)
        best, state = self._best
        if silhouette >= best:
            self._best = silhouette, self._state()
        elif silhouette < best - self.tolerance:
            logger.info("The clusters' silhouette fell from %.3f to %.3f: back to the better state.", best, silhouette)
            self.model.module.load_state_dict(state)
            trainer.should_stop = True
        if len(self._labels) > N_EPOCHS and np.mean(self._labels[-1] != self._labels[0]) < MIN_CHANGE:
            trainer.should_stop = True

    @torch.no_grad()
    def _look(self) -> np.ndarray:
        """The cluster of each cell, (n,), after empty clusters have found cells and the module has been refreshed."""
        module = self.model.module
        z_nd = torch.as_tensor(self.model._map_cells(module.embed, None, None, finite=False)).to(self.model.device)
        label_n = module.assign(z_nd).argmax(dim=1)
        empty_k = (torch.bincount(label_n, minlength=len(module.center_kd)) == 0).nonzero().flatten()
        if len(empty_k):  # each takes one of the cells that are farthest from their own centre
            distance_n = (z_nd - module.center_kd[label_n]).square().sum(dim=1)
            module.center_kd[empty_k] = z_nd[distance_n.topk(len(empty_k)).indices]
            logger.warning("%d of %d clusters were empty and start again.", len(empty_k), len(module.center_kd))
            label_n = module.assign(z_nd).argmax(dim=1)
        module.refresh(z_nd)
        return label_n.cpu().numpy()

    def _silhouette(self) -> float:
        label_m = self._labels[-1][self._sample]
        if not 2 <= len(np.unique(label_m)) < len(label_m):
            return -1.0
        return float(silhouette_score(self._distance_mm, label_m, metric="precomputed"))

    def _state(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.model.module.state_dict().items()}


def _cosine_distances(x_mg: np.ndarray) -> np.ndarray:
    """Euclidean distances (m, m) between the unit vectors of the cells' principal components."""
    x_mg = x_mg - x_mg.mean(axis=0)
    component_md = TruncatedSVD(min(N_COMPONENTS, *x_mg.shape), random_state=0).fit_transform(x_mg)
    norm_m1 = np.linalg.norm(component_md, axis=1, keepdims=True)
    return np.asarray(pairwise_distances(component_md / np.maximum(norm_m1, 1e-12)))
