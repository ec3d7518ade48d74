"""From a difference between cells in the embedding to its genes: by integrated gradients, or exactly where it is linear."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
import torch

from sc_ssl._threads import own_threads
from sc_ssl.data import Cells, batch_statistics, gene_loadings, locate_genes, log_expression
from sc_ssl.models import SSLModel
from sc_ssl.train import isolated

from ._nmf import Scale, coefficients

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from sc_ssl.data import LightAnnData

Baseline = Literal["rest", "mean", "zero"]
Method = Literal["integrated_gradients", "gradient"]
#: pairs of cells that are attributed together
N_PAIRS = 64
#: what a sum of contributions may miss, over the mean difference; until then points on the path are doubled so often
TOLERANCE, MAX_DOUBLINGS = 0.01, 4
#: cells whose mean is the mean expressed cell, evenly spread
N_MEAN = 2000
#: cells that are z-scored together
N_ROWS = 1024


class Attributed(NamedTuple):
    """Contributions of genes for m cells, (m, g), and the difference that they are to sum to, (m,)."""

    contribution_mg: np.ndarray
    difference_m: np.ndarray


class Explainer(Protocol):
    """An embedding that can be traced back to genes."""

    genes: Sequence[str]
    z_nd: np.ndarray

    def attribute(self, cell_m: np.ndarray, other_m: np.ndarray, direction_d: np.ndarray) -> Attributed:
        """What each gene adds to how far cells lie from the baseline along a direction of the embedding."""


class OfModel:
    """A trained model: integrated gradients of its embedding (Sundararajan et al. 2017), by Captum.

    Raises
    ------
    ImportError
        Captum is missing.
    ValueError
        The embedding of the same cells differs from one call to the next.
    """

    def __init__(self, model: SSLModel, cells: LightAnnData, baseline: Baseline, method: Method, n_steps: int) -> None:
        captum_attr()
        self.function = model.embedding_function()
        self.genes = self.function.genes
        self.cells, self.baseline, self.method, self.n_steps = cells, baseline, method, n_steps
        self._check_repeatable()
        self.z_nd = model.get_latent_representation(cells)
        self.missing_g = torch.as_tensor(locate_genes(cells.var_names, self.genes) < 0)
        self.mean_g: Tensor | None = None
        if baseline == "mean":
            spread = np.linspace(0, cells.n_obs - 1, min(cells.n_obs, N_MEAN)).astype(int)
            self.mean_g = self.function.read(cells, spread).x_ng.mean(dim=0)

    def _check_repeatable(self) -> None:
        some = self.function.read(self.cells, np.arange(min(self.cells.n_obs, 8)))
        first, second = self.function(*some), self.function(*some)
        if not torch.allclose(first, second, atol=1e-6):
            raise ValueError(
                "the model's embedding is stochastic: the same cells have another one at each call, so that genes cannot be "
                "told from chance. Take a model whose embed() is deterministic in eval mode."
            )

    @isolated()
    @own_threads()
    def attribute(self, cell_m: np.ndarray, other_m: np.ndarray, direction_d: np.ndarray) -> Attributed:
        """In parts, so that memory does not grow with the number of cells."""
        # of each cell once, whatever the order in which pairs need it
        read, position = np.unique(np.concatenate([cell_m, other_m]), return_inverse=True)
        expression = self.function.read(self.cells, read)
        at_cell, at_other = np.split(position, 2)
        direction_d1 = torch.as_tensor(direction_d, device=expression.x_ng.device)[:, None]
        parts = [
            self._attribute(expression.take(at_cell[part]), expression.take(at_other[part]), direction_d1)
            for part in np.split(np.arange(len(cell_m)), range(N_PAIRS, len(cell_m), N_PAIRS))
        ]
        contributions, differences = zip(*parts, strict=True)
        return Attributed(np.concatenate(contributions), np.concatenate(differences))

    def _attribute(
        self, cells: tuple[Tensor, Tensor], others: tuple[Tensor, Tensor], direction_d1: Tensor
    ) -> Attributed:
        (x_mg, batch_m1), (from_mg, from_batch_m1) = cells, others
        if self.baseline != "rest":
            from_batch_m1 = batch_m1
            from_mg = self.function.empty(batch_m1) if self.mean_g is None else self.mean_g.expand_as(x_mg)
            from_mg = torch.where(self.missing_g.to(x_mg.device), x_mg, from_mg)

        def along(x_ng: Tensor, batch_n1: Tensor) -> Tensor:
            return (self.function(x_ng, batch_n1) @ direction_d1)[:, 0]

        with torch.no_grad():
            difference_m = along(x_mg, batch_m1) - along(from_mg, from_batch_m1)
        if self.method == "gradient":
            slope_mg = (
                captum_attr()
                .Saliency(along)
                .attribute(x_mg.clone().requires_grad_(), abs=False, additional_forward_args=(batch_m1,))
            )
            contribution_mg = slope_mg * (x_mg - from_mg)
        else:
            contribution_mg = self._integrate(along, x_mg, from_mg, batch_m1, difference_m)
        return Attributed(contribution_mg.detach().cpu().numpy(), difference_m.cpu().numpy())

    def _integrate(
        self,
        along: Callable[[Tensor, Tensor], Tensor],
        x_mg: Tensor,
        from_mg: Tensor,
        batch_m1: Tensor,
        difference_m: Tensor,
    ) -> Tensor:
        """Integrated gradients, at twice as many points wherever the sum of a continuous function's is off by over 1 %."""
        integrated = captum_attr().IntegratedGradients(along)
        scale, left = float(difference_m.abs().mean()), torch.arange(len(x_mg), device=x_mg.device)
        found_mg = torch.zeros_like(x_mg)
        for doubling in range(MAX_DOUBLINGS + 1 if self.function.module.is_continuous else 1):
            found_mg[left] = torch.cat(
                [
                    integrated.attribute(
                        x_mg[part],
                        from_mg[part],
                        additional_forward_args=(batch_m1[part],),
                        n_steps=self.n_steps * 2**doubling,
                    ).detach()
                    for part in left.split(max(N_PAIRS >> doubling, 1))
                ]
            )
            missing_m = (found_mg.sum(dim=1) - difference_m).abs()
            left = (missing_m > TOLERANCE * scale).nonzero()[:, 0]
            if not len(left):
                break
        return found_mg


class OfComponents:
    """Principal components before a cell is divided by its length: linear in the z-scores, so the attribution is exact."""

    def __init__(
        self,
        cells: Cells,
        genes: Sequence[str],
        baseline: Baseline,
        *,
        n_comps: int,
        batches: Sequence[str],
        log_input: bool,
    ) -> None:
        self.genes, self.cells, self.baseline, self.log_input = genes, cells, baseline, log_input
        n_batch = max(len(batches), 1)
        self.statistics = batch_statistics(cells, n_batch=n_batch, log_input=log_input, names=batches)
        self.loading_gd = gene_loadings(cells, n_comps=n_comps, statistics=self.statistics, log_input=log_input)
        parts = np.split(np.arange(cells.n_cells), range(N_ROWS, cells.n_cells, N_ROWS))
        self.mean_g = sum(self._z_scores(part).sum(axis=0) for part in parts) / cells.n_cells
        self.z_nd = np.concatenate([(self._z_scores(part) - self.mean_g) @ self.loading_gd for part in parts])

    def _z_scores(self, index: np.ndarray) -> np.ndarray:
        """Clipped z-scores of some cells, (m, g)."""
        rows = self.cells.rows(index)
        log_ng = rows if self.log_input else log_expression(rows, self.cells.library_size[index], self.statistics[0])
        return self._standardized(log_ng.toarray(), index)

    def _standardized(self, log_mg: np.ndarray, index: np.ndarray) -> np.ndarray:
        row_m = self.cells.batch[index] + 1
        _, mean_bg, sd_bg = self.statistics
        return np.clip((log_mg - mean_bg[row_m]) / sd_bg[row_m], -10, 10)

    def attribute(self, cell_m: np.ndarray, other_m: np.ndarray, direction_d: np.ndarray) -> Attributed:
        """Loading × difference of z-scores."""
        x_mg = self._z_scores(cell_m)
        if self.baseline == "rest":
            from_mg = self._z_scores(other_m)
        elif self.baseline == "mean":
            from_mg = np.broadcast_to(self.mean_g, x_mg.shape)
        else:
            from_mg = self._standardized(np.zeros_like(x_mg), cell_m)
        contribution_mg = (x_mg - from_mg) * (self.loading_gd @ direction_d)
        from_md = self.z_nd[other_m] if self.baseline == "rest" else (from_mg - self.mean_g) @ self.loading_gd
        return Attributed(contribution_mg, (self.z_nd[cell_m] - from_md) @ direction_d)


class OfPrograms:
    """NMF's coefficients before a cell is divided by its length: for the programmes that a cell uses, linear in it.

    Z_A = X W_Aᵀ (W_A W_Aᵀ)⁻¹ with A the programmes above 0; a cell's own share less that of the baseline is exact.
    """

    def __init__(
        self,
        cells: Cells,
        genes: Sequence[str],
        baseline: Baseline,
        *,
        program_pg: np.ndarray,
        batches: Sequence[str],
        log_input: bool,
    ) -> None:
        self.genes, self.baseline, self.program_pg = genes, baseline, program_pg.astype(np.float64)
        scale = Scale.of(cells, batches=batches, log_input=log_input)
        self.x_ng = scale(cells.matrix, cells.library_size, cells.batch)
        self.z_nd = coefficients(self.x_ng, program_pg, tol=1e-5)
        spread = np.linspace(0, cells.n_cells - 1, min(cells.n_cells, N_MEAN)).astype(int)
        self.mean_of = spread

    def attribute(self, cell_m: np.ndarray, other_m: np.ndarray, direction_d: np.ndarray) -> Attributed:
        """Each cell's expression times the slope of the programmes that it uses, less the same of the baseline."""
        contribution_mg, difference_m = self._own(cell_m, direction_d), self.z_nd[cell_m] @ direction_d
        if self.baseline == "rest":
            contribution_mg -= self._own(other_m, direction_d)
            difference_m = difference_m - self.z_nd[other_m] @ direction_d
        elif self.baseline == "mean":
            contribution_mg -= self._own(self.mean_of, direction_d).mean(axis=0)
            difference_m = difference_m - (self.z_nd[self.mean_of] @ direction_d).mean()
        return Attributed(contribution_mg, difference_m)

    def _own(self, cell_m: np.ndarray, direction_d: np.ndarray) -> np.ndarray:
        """What the genes of each cell add to its coefficients along the direction, against a cell without counts."""
        slope_mg = np.empty((len(cell_m), self.program_pg.shape[1]))
        for row, cell in enumerate(cell_m):
            used = self.z_nd[cell] > 1e-8
            w_ag = self.program_pg[used]
            slope_mg[row] = np.linalg.pinv(w_ag @ w_ag.T) @ direction_d[used] @ w_ag
        return self.x_ng[cell_m].toarray() * slope_mg


def captum_attr():
    """Captum, which is optional."""
    try:
        from captum import attr
    except ImportError:
        raise ImportError(
            'tl.explain of a model needs captum, which is not installed: pip install "sc_ssl[explain]".'
        ) from None
    return attr
