"""Random views of a cell, composed of parts that change its counts, its log-expression or its z-scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from .gene_masks import GenePrograms
from .noise import binomial_thinning, gaussian_noise_on_expressed, gene_dropout, negative_binomial_noise

if TYPE_CHECKING:
    from sc_ssl.nn import LogNormalize

Stage = Literal["counts", "log", "z"]
STAGES: tuple[Stage, ...] = ("counts", "log", "z")


class Augmentation(nn.Module):
    """A part of a view that changes what ``stage`` names. Everything is drawn for each cell alone."""

    stage: Stage


class BinomialThinning(Augmentation):
    """Lose molecules: the share that each cell keeps is log-uniform between ``1 − rate`` and 1.

    Parameters
    ----------
    rate
        Largest share of molecules that a cell loses, in (0, 1).
    """

    stage = "counts"

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 < rate < 1:
            raise ValueError(f"the rate of binomial thinning lies in (0, 1), found {rate}.")
        self.rate = rate

    def forward(self, x_ng: Tensor, library_size_n1: Tensor) -> tuple[Tensor, Tensor]:
        """Counts, and the library size that is left of each cell in expectation."""
        keep_n1 = (1 - self.rate) ** torch.rand_like(library_size_n1)
        return binomial_thinning(x_ng, keep_n1), library_size_n1 * keep_n1


class NegativeBinomialNoise(Augmentation):
    """Draw each count again around itself, see :func:`negative_binomial_noise`.

    Parameters
    ----------
    dispersion
        θ, > 0.
    """

    stage = "counts"

    def __init__(self, dispersion: float) -> None:
        super().__init__()
        if not dispersion > 0:
            raise ValueError(f"the dispersion of negative-binomial noise is above 0, found {dispersion}.")
        self.dispersion = dispersion

    def forward(self, x_ng: Tensor, library_size_n1: Tensor) -> tuple[Tensor, Tensor]:
        """Counts, and the library size as it was."""
        return negative_binomial_noise(x_ng, self.dispersion), library_size_n1


class GaussianNoise(Augmentation):
    """Noise on the log-expression of expressed genes, see :func:`gaussian_noise_on_expressed`.

    Parameters
    ----------
    sd
        Standard deviation, > 0.
    """

    stage = "log"

    def __init__(self, sd: float) -> None:
        super().__init__()
        if not sd > 0:
            raise ValueError(f"the sd of Gaussian noise is above 0, found {sd}.")
        self.sd = sd

    def forward(self, log_ng: Tensor) -> Tensor:
        """Log-expression, ≥ 0."""
        return gaussian_noise_on_expressed(log_ng, self.sd)


class GeneDropout(Augmentation):
    """Hide genes, see :func:`gene_dropout`.

    Parameters
    ----------
    rate
        Probability that a gene is hidden, in (0, 1).
    """

    stage = "z"

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 < rate < 1:
            raise ValueError(f"the rate of gene dropout lies in (0, 1), found {rate}.")
        self.rate = rate

    def forward(self, z_ng: Tensor) -> Tensor:
        """Z-scores, 0 where hidden."""
        return gene_dropout(z_ng, self.rate)


class ProgramDropout(Augmentation):
    """Hide whole gene programmes until a share of their genes is hidden.

    Parameters
    ----------
    masking
        Which programmes, and the share.
    """

    stage = "z"

    def __init__(self, masking: GenePrograms) -> None:
        super().__init__()
        self.masking = masking

    def forward(self, z_ng: Tensor) -> Tensor:
        """Z-scores, 0 where hidden."""
        return self.masking.show(z_ng, self.masking(len(z_ng)).visible_ng)


class Augmentations(nn.Module):
    """A view of cells: its parts in the order counts, log-expression, z-scores, and within each as given.

    Parameters
    ----------
    parts
        At least one.
    """

    def __init__(self, parts: Sequence[Augmentation]) -> None:
        super().__init__()
        if not parts:
            raise ValueError("a view needs at least one augmentation: without, both views of a cell are the same.")
        self.parts = nn.ModuleList(sorted(parts, key=lambda part: STAGES.index(part.stage)))

    @property
    def reads_counts(self) -> bool:
        """Whether a part acts before z-scores, which are otherwise computed once for all epochs."""
        return any(part.stage != "z" for part in self.parts)

    def forward(self, cells: dict[str, Tensor], normalize: LogNormalize) -> Tensor:
        """One view of each cell, as weighed z-scores (n, g)."""
        # each stage is computed from the one before, after its parts have changed it
        if self.reads_counts:
            for part in self.of("counts"):
                x_ng, library_size_n1 = part(cells["X"], cells["library_size"])
                cells = cells | {"X": x_ng, "library_size": library_size_n1}
            log_ng = normalize.log_expression(cells)
            for part in self.of("log"):
                log_ng = part(log_ng)
            z_ng = normalize.standardize(log_ng, cells)
        else:
            z_ng = normalize(cells)
        for part in self.of("z"):
            z_ng = part(z_ng)
        return z_ng

    def of(self, stage: Stage) -> list[nn.Module]:
        """The parts of one stage."""
        return [part for part in self.parts if part.stage == stage]
