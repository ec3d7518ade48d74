"""Probabilities that mean what they say, and the one below which a cell is better called unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar

if TYPE_CHECKING:
    from torch import Tensor


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
