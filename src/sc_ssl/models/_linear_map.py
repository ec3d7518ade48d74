"""A linear encoder of centred log-expression on cells that stay sparse: the centring is done after the map."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from sc_ssl.data import log_expression

if TYPE_CHECKING:
    from sc_ssl.data import Cells

    from ._scpretrain_module import ScPretrainModule

#: cells that are mapped at a time
N_ROWS = 4096


def is_linear(module: ScPretrainModule) -> bool:
    """Whether the embedding is W·log1p(…) plus a constant of the batch, on the CPU."""
    normalize = module.normalize
    unscaled = normalize.clip == math.inf and bool((normalize.sd_bg == 1).all() and (normalize.weight_g == 1).all())
    return isinstance(module.encoder, nn.Linear) and unscaled and normalize.mean_bg.device.type == "cpu"


@torch.inference_mode()
def map_linearly(module: ScPretrainModule, cells: Cells, index: np.ndarray) -> np.ndarray:
    """What ``module.embed`` gives, up to rounding: W·log1p(x) − W·mean + bias, (n, n_latent) float32.

    Only counts above 0 are touched, a twentieth of what a dense minibatch holds. A gene that the data did not measure
    takes part in neither product.
    """
    normalize, weight_dg = module.normalize, module.encoder.weight
    shift_bd = module.encoder.bias - torch.where(torch.as_tensor(cells.measured), normalize.mean_bg, 0.0) @ weight_dg.T
    row_n = cells.batch[index] + 1 if len(shift_bd) > 2 else np.zeros(len(index), int)
    z_nd = shift_bd.numpy()[row_n]
    weight_gd = np.ascontiguousarray(weight_dg.T.numpy())
    for start in range(0, len(index), N_ROWS):
        part = index[start : start + N_ROWS]
        log_ng = cells.rows(part)
        if not normalize.log_input:
            library_n = cells.size_factor[part] if normalize.by_library else np.ones(len(part))
            log_ng = log_expression(log_ng, library_n, float(normalize.target_sum))
        z_nd[start : start + N_ROWS] += log_ng.astype(np.float32, copy=False) @ weight_gd
    return z_nd
