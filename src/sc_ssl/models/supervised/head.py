"""A classification head, which starts from a logistic regression, and the module that joins it to an encoder."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from sc_ssl._checks import check_choice
from sc_ssl.models.base import SSLModule
from sc_ssl.nn import MLP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sklearn.base import BaseEstimator

    from sc_ssl.nn import LogNormalize


def logistic_regression(**options: Any) -> LogisticRegression:
    """For standardised embeddings of few or many cells: an L2 penalty of strength 10."""
    return LogisticRegression(C=0.1, max_iter=2000, **options)


def fit_types(model: BaseEstimator, z_nd: np.ndarray, label_n: np.ndarray, **options: Any) -> BaseEstimator:
    """Fit a classifier of scikit-learn, which takes many types of few cells for a regression problem and warns."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%", UserWarning)
        return model.fit(z_nd, label_n, **options)


def linear_probe(z_nd: Tensor, label_n: np.ndarray, weight_k: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Weights (k, d) and intercepts (k,) of a logistic regression on standardised embeddings, cells weighed by class.

    A class without cells has no weights and the smallest intercept.
    """
    found = fit_types(logistic_regression(), z_nd.numpy(), label_n, sample_weight=weight_k.numpy()[label_n])
    coef_kd, intercept_k = found.coef_, found.intercept_
    if len(found.classes_) == 2:  # one column for the second class against the first
        coef_kd, intercept_k = (np.concatenate([-x / 2, x / 2]) for x in (coef_kd, intercept_k))
    weight_kd, bias_k = np.zeros((len(weight_k), z_nd.shape[1])), np.full(len(weight_k), intercept_k.min())
    weight_kd[found.classes_], bias_k[found.classes_] = coef_kd, intercept_k
    return weight_kd, bias_k


ClassWeight = Literal["balanced", "squared"]


class Head(SSLModule):
    """Standardises embeddings, which stand for ``"X"`` in its minibatches, and tells the types apart.

    A linear map and, where there are hidden layers, a network that adds to it and starts at 0.
    """

    normalize = None  # it reads embeddings
    mean_d: Tensor
    sd_d: Tensor
    class_weight_k: Tensor

    def __init__(self, n_latent: int, n_hidden: Sequence[int], n_classes: int, *, dropout_rate: float) -> None:
        super().__init__()
        self.linear = nn.Linear(n_latent, n_classes)
        self.mlp: MLP | None = None
        if n_hidden:
            self.mlp = MLP(n_latent, n_hidden, n_classes, norm="none", dropout_rate=dropout_rate)
            nn.init.zeros_(self.mlp[-1].weight)  # type: ignore[arg-type]
        self.register_buffer("mean_d", torch.zeros(n_latent))
        self.register_buffer("sd_d", torch.ones(n_latent))
        self.register_buffer("class_weight_k", torch.ones(n_classes))

    def embed(self, cells: dict[str, Tensor]) -> Tensor:
        """The embedding as it is given."""
        return cells["X"]

    def standardize(self, z_nd: Tensor) -> None:
        """Take the mean and sd of these embeddings."""
        self.mean_d.copy_(z_nd.mean(dim=0))
        sd_d = z_nd.std(dim=0)
        self.sd_d.copy_(torch.where(sd_d > 1e-6, sd_d, torch.ones_like(sd_d)))

    @torch.no_grad()
    def start_from_probe(self, z_nd: Tensor, label_n: np.ndarray) -> None:
        """Start from the logistic regression that fits these embeddings (n, n_latent) and classes (n,)."""
        self.standardize(z_nd)
        z_nd = (z_nd - self.mean_d.cpu()) / self.sd_d.cpu()
        weight_kd, bias_k = linear_probe(z_nd, label_n, self.class_weight_k.cpu())
        self.linear.weight.copy_(torch.as_tensor(weight_kd))
        self.linear.bias.copy_(torch.as_tensor(bias_k))

    def weigh_classes(self, n_k: Tensor, how: ClassWeight | None) -> None:
        """Weigh classes of these sizes alike, or by the square of the others' share, or every cell alike."""
        check_choice("class_weight", how, (*get_args(ClassWeight), None))
        share_k = n_k.double() / n_k.sum()
        weight_k = {"balanced": 1 / (len(n_k) * share_k.clamp(min=1 / n_k.sum())), "squared": (1 - share_k).square()}
        self.class_weight_k.copy_(weight_k.get(how, torch.ones(len(n_k))))

    def classify(self, z_nd: Tensor) -> Tensor:
        """Embeddings (n, n_latent) to logits (n, k)."""
        z_nd = (z_nd - self.mean_d) / self.sd_d
        return self.linear(z_nd) if self.mlp is None else self.linear(z_nd) + self.mlp(z_nd)

    def logits(self, cells: dict[str, Tensor]) -> Tensor:
        """Of a minibatch whose ``"X"`` is the embedding, (n, k)."""
        return self.classify(cells["X"])

    def loss_terms(self, cells: dict[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy, cells weighed by their class."""
        return {"cross_entropy": F.cross_entropy(self.logits(cells), cells["label"], weight=self.class_weight_k)}


class CellClassifierModule(SSLModule):
    """A pretrained module and a head, which reads its embedding or, of a transformer on genes, a number for each gene."""

    #: mean embedding of the cells that it was trained with
    center_d: Tensor
    temperature: Tensor
    threshold: Tensor

    def __init__(self, *, encoder: SSLModule, slot: nn.Linear | None, head: Head) -> None:
        super().__init__()
        self.encoder, self.slot = encoder, slot
        self.head = head
        self.register_buffer("center_d", torch.zeros_like(head.mean_d))
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("threshold", torch.zeros(()))

    @property
    def normalize(self) -> LogNormalize:  # type: ignore[override]
        """The encoder's: training, embedding and new cells share one path."""
        return self.encoder.normalize

    def calibrate(self, temperature: float, threshold: float) -> None:
        """Divide logits by a temperature, and take less probable cells than the threshold for unknown."""
        self.temperature.fill_(temperature)
        self.threshold.fill_(threshold)

    def sureness(self) -> dict[str, Tensor]:
        """Temperature and threshold, by name."""
        return {"temperature": self.temperature.clone(), "threshold": self.threshold.clone()}

    def embed(self, cells: dict[str, Tensor]) -> Tensor:
        """What the head reads: the encoder's embedding (n, n_latent), or its slots of genes (n, g + 1)."""
        return self.encoder.embed(cells) if self.slot is None else self.encoder.gene_slots(cells, self.slot)

    def logits(self, cells: dict[str, Tensor]) -> Tensor:
        """Before calibration, (n, k)."""
        return self.head.classify(self.embed(cells))

    def proba(self, cells: dict[str, Tensor]) -> Tensor:
        """Calibrated probabilities (n, k); rows sum to 1."""
        return self.proba_at(self.embed(cells))

    @torch.no_grad()
    def proba_at(self, z_nd: Tensor) -> Tensor:
        """The same of embeddings (n, n_latent)."""
        return (self.head.classify(z_nd) / self.temperature).softmax(dim=1)

    def loss_terms(self, cells: dict[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy, cells weighed by their class."""
        weight_k = self.head.class_weight_k
        return {"cross_entropy": F.cross_entropy(self.logits(cells), cells["label"], weight=weight_k)}
