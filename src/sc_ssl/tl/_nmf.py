"""The numbers behind ``tl.nmf_transfer``: X ≈ Z W, Z (n, p) how much a cell uses of each programme, W (p, g) ≥ 0."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy import sparse
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning

from sc_ssl.data import batch_statistics, log_expression

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sc_ssl.data import Cells

#: largest value of a gene, in standard deviations
CLIP = 10.0
MAX_ITER = 200
#: a gene of a batch is multiplied by at most this; and what is added to both means, so that rare counts move them little
MAX_FACTOR, SMALL_MEAN = 4.0, 0.05
#: relative change of the mixture's programmes at which its factorisation ends
MIXED_TOL = 1e-2
TINY = 1e-10


@dataclass(frozen=True)
class Scale:
    """Log-expression in units of each gene's standard deviation: as sparse as the counts, and ≥ 0 as NMF wants it."""

    target_sum: float
    sd_g: np.ndarray
    #: what a gene's log-expression is multiplied by in each batch, (b, g); ``None`` for one batch
    factor_bg: np.ndarray | None = None
    log_input: bool = False

    @classmethod
    def of(cls, cells: Cells, *, batches: Sequence[str] = (), log_input: bool = False) -> Self:
        """The median library size, the standard deviations of these cells, and what brings their batches to one mean.

        A factor, other than the difference of means that z-scores take, leaves zeros at zero and all else above.
        """
        n_batch = max(len(batches), 1)
        target_sum, mean_bg, sd_bg = batch_statistics(cells, n_batch=n_batch, log_input=log_input, names=batches)
        factor_bg = None
        if n_batch > 1:
            ratio_bg = (mean_bg[0] + SMALL_MEAN) / (np.maximum(mean_bg[1:], 0) + SMALL_MEAN)
            factor_bg = np.clip(ratio_bg, 1 / MAX_FACTOR, MAX_FACTOR)
        return cls(target_sum, sd_bg[0], factor_bg, log_input)

    def __call__(
        self, counts_ng: sparse.csr_matrix, library_size_n: np.ndarray, batch_n: np.ndarray | None = None
    ) -> sparse.csr_matrix:
        """``min(log1p(target · x / library) / sd, 10)``, (n, g) CSR float32; times the factors of the batches."""
        log_ng = counts_ng if self.log_input else log_expression(counts_ng, library_size_n, self.target_sum)
        value = log_ng.data / self.sd_g[log_ng.indices]
        if self.factor_bg is not None:
            value = value * self.factor_bg[np.repeat(batch_n, np.diff(log_ng.indptr)), log_ng.indices]
        value = np.minimum(value, CLIP).astype(np.float32)
        return sparse.csr_matrix((value, log_ng.indices, log_ng.indptr), shape=log_ng.shape)


@dataclass(frozen=True)
class Mixture:
    """``θ Z₀ W₀ + (1 − θ) X``, never made dense: the cells as the source's programmes explain them, and as they are."""

    x_ng: sparse.csr_matrix
    explained_np: np.ndarray
    program_pg: np.ndarray
    theta: float

    def times(self, program_gp: np.ndarray) -> np.ndarray:
        """M Wᵀ, (n, p)."""
        explained_np = self.explained_np @ (self.program_pg @ program_gp)
        return self.theta * explained_np + (1 - self.theta) * (self.x_ng @ program_gp)

    def transposed_times(self, cell_np: np.ndarray) -> np.ndarray:
        """Mᵀ Z, (g, p)."""
        explained_gp = self.program_pg.T @ (self.explained_np.T @ cell_np)
        return self.theta * explained_gp + (1 - self.theta) * (self.x_ng.T @ cell_np)


def programs(
    x_ng: sparse.csr_matrix, n_components: int, *, seed: int | None, type_n: np.ndarray | None = None
) -> np.ndarray:
    """Programmes (p, g) of length 1, by scikit-learn's coordinate descent from NNDSVD with zeros at the mean.

    With the types of the cells, codes (n,), the first programmes start as the mean of each type instead.
    """
    model = NMF(min(n_components, *x_ng.shape), init="nndsvda", tol=1e-3, max_iter=MAX_ITER, random_state=seed)
    with warnings.catch_warnings():
        # the last iterations change little, and the error that was reached is written down
        warnings.filterwarnings("ignore", category=ConvergenceWarning)
        program_pg = unit_rows(model.fit(x_ng).components_)
        if type_n is not None:
            of_type_kn = np.eye(type_n.max() + 1, dtype=np.float32)[type_n].T
            program_pg[: len(of_type_kn)] = unit_rows((x_ng.T @ of_type_kn.T).T)
            model.set_params(init="custom")
            model.fit_transform(x_ng, W=coefficients(x_ng, program_pg), H=program_pg)
            program_pg = unit_rows(model.components_)
    return program_pg


def coefficients(x_ng: sparse.csr_matrix, program_pg: np.ndarray, *, tol: float = 1e-3) -> np.ndarray:
    """Non-negative least squares: the Z ≥ 0, (n, p), with the least ‖X − Z W‖² for this W."""
    product_np, gram_pp = x_ng @ program_pg.T, program_pg @ program_pg.T
    cell_np = np.zeros_like(product_np)
    for _ in range(MAX_ITER):
        if descend(cell_np, product_np, gram_pp) < tol:
            break
    return cell_np


def mixed_programs(x_ng: sparse.csr_matrix, program_pg: np.ndarray, theta: float) -> np.ndarray:
    """NMF of the mixture from the source's programmes on: programmes (p, g) of length 1, the source's at θ = 1."""
    if theta == 1:
        return program_pg
    cell_np, program_gp = coefficients(x_ng, program_pg), program_pg.T.copy()
    mixture = Mixture(x_ng, cell_np.copy(), program_pg, theta)
    for _ in range(MAX_ITER):
        change = descend(program_gp, mixture.transposed_times(cell_np), cell_np.T @ cell_np)
        descend(cell_np, mixture.times(program_gp), program_gp.T @ program_gp)
        if change < MIXED_TOL:
            break
    return unit_rows(program_gp.T)


def descend(factor_np: np.ndarray, product_np: np.ndarray, gram_pp: np.ndarray) -> float:
    """Set each column of Z in turn to its best value ≥ 0, in place (HALS; Cichocki & Phan 2009).

    Returns
    -------
    How far Z moved, relative to its length.
    """
    before_np = factor_np.copy()
    for p in range(len(gram_pp)):
        step_n = (product_np[:, p] - factor_np @ gram_pp[:, p]) / max(gram_pp[p, p], TINY)
        np.maximum(factor_np[:, p] + step_n, 0, out=factor_np[:, p])
    return float(np.linalg.norm(factor_np - before_np) / max(np.linalg.norm(factor_np), TINY))


def relative_error(x_ng: sparse.csr_matrix, cell_np: np.ndarray, program_pg: np.ndarray) -> float:
    """‖X − Z W‖² / ‖X‖² from products with the sparse X alone; in [0, 1] for the best Z."""
    norm = float(np.square(x_ng.data, dtype=np.float64).sum())
    cross = float(np.multiply(x_ng @ program_pg.T, cell_np, dtype=np.float64).sum())
    model = float(np.multiply(cell_np.T @ cell_np, program_pg @ program_pg.T, dtype=np.float64).sum())
    return (norm - 2 * cross + model) / norm


def kernel_target_alignments(x_ng: sparse.csr_matrix, cells: Iterable[np.ndarray]) -> np.ndarray:
    """Cosine of the centred linear kernels of X and of each Z, in [0, 1] (Cristianini et al. 2001; Cortes et al. 2012).

    By traces: tr(Kx Kz) = ‖Xᵀ Z‖² and tr(Kx Kx) = ‖Xᵀ X‖² = ‖X Xᵀ‖²; the smaller matrix is made, once for all Z.
    """
    if x_ng.shape[0] < x_ng.shape[1]:
        gram = (x_ng @ x_ng.T).toarray()
        gram = gram - gram.mean(axis=0) - gram.mean(axis=1, keepdims=True) + gram.mean()
    else:
        mean_g = np.ravel(x_ng.mean(axis=0))
        gram = (x_ng.T @ x_ng).toarray() - x_ng.shape[0] * np.outer(mean_g, mean_g)
    length = np.linalg.norm(gram)

    def alignment(cell_np: np.ndarray) -> float:
        centred_np = cell_np - cell_np.mean(axis=0)
        cross = np.square(x_ng.T @ centred_np).sum()
        return float(cross / max(length * np.linalg.norm(centred_np.T @ centred_np), TINY))

    return np.array([alignment(cell_np) for cell_np in cells])


def unit_rows(matrix: np.ndarray) -> np.ndarray:
    """Rows divided by their length; a row of zeros stays as it is."""
    return matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), TINY)
