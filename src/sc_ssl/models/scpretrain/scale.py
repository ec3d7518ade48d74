"""One scale for all data sets: a gene's mean and sd over those that measured it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from sc_ssl.data import gene_statistics
from sc_ssl.nn import LogNormalize

if TYPE_CHECKING:
    from torch import Tensor

    from sc_ssl.data import Cells


#: counts per cell after normalisation
TARGET_SUM = 1e4


def pooled_normalizer(
    scale: str, n_genes: int, n_batch: int, *, cells: Cells | None, measured_bg: np.ndarray | None, log_input: bool
) -> LogNormalize:
    """The normalisation of several data sets. One mean and sd of a gene serve all of them, over those that measured it.

    Without cells its statistics come with the saved tensors; without ``measured_bg`` all data sets measured all genes.
    """
    clip = 10.0 if scale == "zscore" else math.inf
    normalize = LogNormalize(n_genes, n_batch, clip=clip, log_input=log_input, by_library=scale != "log1p")
    if scale == "log1p" or cells is None:  # the first needs no statistics
        return normalize
    _, mean_bg, sd_bg = gene_statistics(cells, n_batch=n_batch, log_input=log_input, target_sum=TARGET_SUM)
    normalize.set_statistics(TARGET_SUM, torch.as_tensor(mean_bg), torch.as_tensor(sd_bg))
    if measured_bg is None:
        measured_bg = np.ones((n_batch, n_genes), dtype=bool)
    n_b = torch.as_tensor(np.bincount(cells.batch, minlength=n_batch))
    pool_statistics(normalize, n_b, torch.as_tensor(measured_bg))
    if scale == "cp10k":
        normalize.sd_bg.fill_(1.0)
    return normalize


def pool_statistics(normalize: LogNormalize, n_b: Tensor, measured_bg: Tensor) -> None:
    """One mean and sd of each gene for all batches, from those that measured it; it is 0 wherever it was not measured."""
    weight_bg = n_b[:, None] * measured_bg.double()
    share_bg = weight_bg / weight_bg.sum(dim=0).clamp(min=1)
    mean_bg, sd_bg = normalize.mean_bg[1:].double(), normalize.sd_bg[1:].double()
    mean_g = (share_bg * mean_bg).sum(dim=0)
    sd_g = (share_bg * (sd_bg**2 + (mean_bg - mean_g) ** 2)).sum(dim=0).sqrt()
    sd_g = torch.where(sd_g > 1e-6, sd_g, 1.0)
    all_bg = torch.cat([torch.ones_like(measured_bg[:1]), measured_bg])
    normalize.mean_bg.copy_(torch.where(all_bg, mean_g, 0.0))
    normalize.sd_bg.copy_(torch.where(all_bg, sd_g, 1.0))
