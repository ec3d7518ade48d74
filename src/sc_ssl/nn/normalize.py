"""Normalisation inside the module, so that training, embedding and query data share one path."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class LogNormalize(nn.Module):
    """Raw counts in, z-scored log-expression out: ``weight · clip((log1p(target_sum · x / library) − mean) / sd)``.

    The mean and sd of each gene are fixed when the model meets its training cells. With batches they are those of the
    cell's own batch (a batch that the model has not seen, code −1, takes those of all cells). A gene that the data did
    not measure takes its mean, 0. Weights of the genes are 1 unless they are set.

    Parameters
    ----------
    n_genes
        Number of genes g.
    n_batch
        Number of batches b.
    clip
        Largest absolute z-score.
    log_input
        The input is log-normalised already: skip the library size and log1p.
    by_library
        Divide by the library size; without, counts enter log1p as they are, times ``target_sum``.
    """

    #: what counts are normalised by, of a minibatch
    reads = ("X", "library_size", "batch", "measured")
    target_sum: Tensor
    mean_bg: Tensor
    sd_bg: Tensor
    weight_g: Tensor

    def __init__(
        self, n_genes: int, n_batch: int = 1, *, clip: float = 10.0, log_input: bool = False, by_library: bool = True
    ) -> None:
        super().__init__()
        self.clip = clip
        self.log_input = log_input
        self.by_library = by_library
        self.register_buffer("target_sum", torch.ones(()))
        # row 0 holds all cells together, row 1 + b those of batch b
        self.register_buffer("mean_bg", torch.zeros(1 + n_batch, n_genes))
        self.register_buffer("sd_bg", torch.ones(1 + n_batch, n_genes))
        self.register_buffer("weight_g", torch.ones(n_genes))

    def set_statistics(self, target_sum: float, mean_bg: Tensor, sd_bg: Tensor, weight_g: Tensor | None = None) -> None:
        """Take the target library size (counts) and each gene's mean and sd of log1p, all cells first, then batches."""
        self.target_sum.fill_(target_sum)
        self.mean_bg.copy_(mean_bg)
        self.sd_bg.copy_(sd_bg)
        if weight_g is not None:
            self.weight_g.copy_(weight_g)

    def forward(self, cells: Mapping[str, Tensor]) -> Tensor:
        """Normalise a minibatch: ``X`` (n, g) counts, ``library_size`` and ``batch`` (n, 1), ``measured`` (g,).

        A minibatch that was normalised before brings the result as ``normalized``.
        """
        if "normalized" in cells:
            return cells["normalized"]
        return self.standardize(self.log_expression(cells), cells)

    def log_expression(self, cells: Mapping[str, Tensor]) -> Tensor:
        """``log1p(target_sum · x / library)``, or the input where it is log-normalised already; (n, g), ≥ 0."""
        if "log" in cells:  # of cells whose log-expression is given, as where it is differentiated by
            return cells["log"]
        if self.log_input:
            return cells["X"]
        return torch.log1p(cells["X"] * (self.target_sum / (cells["library_size"] if self.by_library else 1)))

    def standardize(self, log_ng: Tensor, cells: Mapping[str, Tensor]) -> Tensor:
        """Weighed z-scores of log-expression, (n, g), of these cells' batches."""
        mean, sd = self._statistics(cells)
        z_ng = ((log_ng - mean) / sd).clamp(-self.clip, self.clip) * self.weight_g
        return torch.where(cells["measured"], z_ng, 0.0) if "measured" in cells else z_ng

    def unstandardize(self, z_ng: Tensor, cells: Mapping[str, Tensor]) -> Tensor:
        """Log-expression that has these z-scores, before they are weighed; (n, g)."""
        mean, sd = self._statistics(cells)
        return z_ng * sd + mean

    def _statistics(self, cells: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        if len(self.mean_bg) == 2:
            return self.mean_bg[0], self.sd_bg[0]
        row_n = cells["batch"].flatten() + 1
        return self.mean_bg[row_n], self.sd_bg[row_n]
