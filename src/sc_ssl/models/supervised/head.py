"""A classification head that starts from a logistic regression, its module with an encoder, and its calibration."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from sc_ssl._checks import check_choice
from sc_ssl.models.base import SSLModule
from sc_ssl.nn import MLP

from .encoder import OnEncoderModule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def linear_probe(z_nd: Tensor, label_n: np.ndarray, weight_k: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Weights (k, d) and intercepts (k,) of a logistic regression on standardised embeddings, cells weighed by class.

    A class without cells has no weights and the smallest intercept.
    """
    with warnings.catch_warnings():  # scikit-learn takes many types of few cells for a regression problem
        warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%", UserWarning)
        found = LogisticRegression(C=0.1, max_iter=2000).fit(z_nd.numpy(), label_n, weight_k.numpy()[label_n])
    coef_kd, intercept_k = found.coef_, found.intercept_
    if len(found.classes_) == 2:  # one column for the second class against the first
        coef_kd, intercept_k = (np.concatenate([-x / 2, x / 2]) for x in (coef_kd, intercept_k))
    weight_kd, bias_k = np.zeros((len(weight_k), z_nd.shape[1])), np.full(len(weight_k), intercept_k.min())
    weight_kd[found.classes_], bias_k[found.classes_] = coef_kd, intercept_k
    return weight_kd, bias_k


ClassWeight = Literal["balanced", "squared"]


class Head(SSLModule):
    """Standardises embeddings and classifies them; trained alone, it finds them as ``"embedding"`` in its minibatches.

    A linear map and, where there are hidden layers, a network that adds to it and starts at 0.
    """

    normalize = None  # type: ignore[assignment]  # it reads embeddings
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

    def embed(self, cells: Mapping[str, Tensor]) -> Tensor:
        """The embedding as it is given."""
        return cells["embedding"]

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
        if how is None:
            self.class_weight_k.fill_(1)
            return
        check_choice("class_weight", how, get_args(ClassWeight))
        share_k = n_k.double() / n_k.sum()
        balanced_k = 1 / (len(n_k) * share_k.clamp(min=1 / n_k.sum()))
        self.class_weight_k.copy_(balanced_k if how == "balanced" else (1 - share_k).square())

    def classify(self, z_nd: Tensor) -> Tensor:
        """Embeddings (n, n_latent) to logits (n, k)."""
        z_nd = (z_nd - self.mean_d) / self.sd_d
        logit_nk: Tensor = self.linear(z_nd)
        return logit_nk if self.mlp is None else logit_nk + self.mlp(z_nd)

    def logits(self, cells: Mapping[str, Tensor]) -> Tensor:
        """Before calibration, (n, k)."""
        return self.classify(self.embed(cells))

    def loss_terms(self, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy, cells weighed by their class."""
        return {"cross_entropy": F.cross_entropy(self.logits(cells), cells["label"], weight=self.class_weight_k)}


class CellClassifierModule(OnEncoderModule):
    """A pretrained module and a head, which reads its embedding or, of a transformer on genes, a number for each gene."""

    #: mean embedding of the cells that it was trained with
    center_d: Tensor
    temperature: Tensor
    threshold: Tensor

    def __init__(self, *, encoder: SSLModule, slot: nn.Linear | None, head: Head) -> None:
        super().__init__(encoder=encoder)
        self.slot, self.head = slot, head
        self.register_buffer("center_d", torch.zeros_like(head.mean_d))
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("threshold", torch.zeros(()))

    def calibrate(self, temperature: float, threshold: float) -> None:
        """Divide logits by a temperature, and take less probable cells than the threshold for unknown."""
        self.temperature.fill_(temperature)
        self.threshold.fill_(threshold)

    def sureness(self) -> dict[str, Tensor]:
        """Temperature and threshold, by name."""
        return {"temperature": self.temperature.clone(), "threshold": self.threshold.clone()}

    def embed(self, cells: Mapping[str, Tensor]) -> Tensor:
        """What the head reads: the encoder's embedding (n, n_latent), or its slots of genes (n, g + 1)."""
        return self.encoder.embed(cells) if self.slot is None else self.encoder.gene_slots(cells, self.slot)

    def logits(self, cells: Mapping[str, Tensor]) -> Tensor:
        """Before calibration, (n, k)."""
        return self.head.classify(self.embed(cells))

    def proba(self, cells: Mapping[str, Tensor]) -> Tensor:
        """Calibrated probabilities (n, k); rows sum to 1."""
        return self.proba_at(self.embed(cells))

    @torch.no_grad()
    def proba_at(self, z_nd: Tensor) -> Tensor:
        """The same of embeddings (n, n_latent)."""
        return (self.head.classify(z_nd) / self.temperature).softmax(dim=1)

    def loss_terms(self, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy, cells weighed by their class."""
        weight_k = self.head.class_weight_k
        return {"cross_entropy": F.cross_entropy(self.logits(cells), cells["label"], weight=weight_k)}


def gene_slot(encoder: SSLModule) -> nn.Linear:
    """The map of a gene's output to one number, for encoders whose tokens are genes."""
    if not hasattr(encoder, "gene_slots"):
        raise ValueError(
            "reads='gene_slots' is for encoders whose tokens are genes (CellLM), found a "
            f"{type(encoder).__name__.removesuffix('Module')}; take reads='embedding'."
        )
    return nn.Linear(len(encoder.cls_token), 1)


def calibration(logit_nk: Tensor, label_n: np.ndarray, refused_share: float) -> tuple[float, float]:
    """The temperature with the smallest cross-entropy; the threshold that calls few of the right cells unknown.

    Temperature scaling of Guo et al. (2017). Targets are smoothed as Platt (1999) does, so that a handful of cells all
    named rightly does not ask for certainty.

    Parameters
    ----------
    logit_nk
        Of cells that were not trained on, (n, k).
    label_n
        Their types' codes, (n,).
    refused_share
        Share of the cells named rightly that lie below the threshold, in [0, 1).

    Returns
    -------
    Temperature (> 0), and probability of the most probable type in [0, 1], 0 when no cell is named rightly.
    """
    logit_nk, label, smoothing = logit_nk.double(), torch.as_tensor(label_n), 1 / (len(label_n) + 2)

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(logit_nk / np.exp(log_temperature), label, label_smoothing=smoothing))

    temperature = float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))
    proba_nk = (logit_nk / temperature).softmax(dim=1)
    right = proba_nk.argmax(dim=1) == label
    threshold = float(torch.quantile(proba_nk.amax(dim=1)[right], refused_share)) if right.any() else 0.0
    return temperature, threshold
