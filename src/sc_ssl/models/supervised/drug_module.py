"""The network and the loss of DrugResponse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.linear_model import Ridge, RidgeCV
from torch import Tensor, nn

from sc_ssl.losses import squared_error
from sc_ssl.nn import MLP

from .encoder import OnEncoderModule, latent_width
from .molecules import MolecularGraphs, MoleculeGIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sc_ssl.models.base import SSLModule


#: more cells are thinned out: the time grows with their cube
MAX_CELLS = 2000
#: penalties that are tried, in units of the cells' mean squared length
PENALTIES = 10.0 ** np.arange(-1, 2.1, 0.5)


def ridge_regression(x_ng: np.ndarray, y_nm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (g, m) and intercepts (m,) for responses with NaN where they were not measured.

    One penalty for all drugs, by the error on cells left out one at a time, for which the mean stands where a response
    is missing (the more are, the larger the penalty); then each drug on the cells in which it was measured, at least
    two, else it has no weights.
    """
    x_ng, y_nm = x_ng.astype(np.float64), y_nm.astype(np.float64)
    measured_nm = np.isfinite(y_nm)
    scale = np.square(x_ng - x_ng.mean(axis=0)).sum(axis=1).mean()
    mean_m = np.where(measured_nm, y_nm, 0).sum(axis=0) / measured_nm.sum(axis=0).clip(min=1)
    filled_nm = np.where(measured_nm, y_nm, mean_m)
    penalty = RidgeCV(PENALTIES * max(scale, 1e-12)).fit(x_ng, filled_nm).alpha_
    weight_gm, bias_m = np.zeros((x_ng.shape[1], y_nm.shape[1])), np.zeros(y_nm.shape[1])
    patterns_np, pattern_m = np.unique(measured_nm, axis=1, return_inverse=True)
    for pattern, measured_n in enumerate(patterns_np.T):
        drugs = np.flatnonzero(pattern_m.ravel() == pattern)
        if measured_n.sum() < 2:
            continue
        fitted = Ridge(penalty).fit(x_ng[measured_n], y_nm[np.ix_(measured_n, drugs)])
        weight_gm[:, drugs], bias_m[drugs] = np.atleast_2d(fitted.coef_).T, fitted.intercept_
    return weight_gm, bias_m


#: noise of a drug's level beside what its structure predicts, as a share of its variance
LEVEL_NOISE = 1.0


class DrugResponseModule(OnEncoderModule):
    """``ln IC50 = mean of the drug + sd of the drug · ⟨cell branch, drug branch⟩``.

    Mean and sd of a drug are those of the training cells; those of a new drug follow from the training drugs that are
    like it. So do the weights of the linear regression that a prediction may take a share from.
    """

    feature_mf: Tensor
    known_f: Tensor
    mean_m: Tensor
    sd_m: Tensor
    linear_gm: Tensor
    intercept_m: Tensor

    def __init__(
        self,
        *,
        encoder: SSLModule,
        feature_mf: Tensor,
        graphs: MolecularGraphs | None,
        n_atom_values: tuple[int, ...],
        n_drug_hidden: int,
        n_latent: int,
        freeze_encoder: bool,
    ) -> None:
        super().__init__(encoder=encoder, freeze_encoder=freeze_encoder)
        n_drugs, n_features = feature_mf.shape
        width = latent_width(encoder)
        # embeddings of trained encoders differ in scale between methods
        self.cell = nn.Sequential(nn.BatchNorm1d(width, affine=False), nn.Linear(width, n_latent))
        self.drug: MLP | MoleculeGIN
        if graphs is None:
            self.drug = MLP(n_features, (n_drug_hidden,), n_latent, norm="layer")
        else:
            self.drug = MoleculeGIN(n_atom_values, n_latent)
        for name, tensor in zip(MolecularGraphs._fields, graphs or (), strict=False):
            self.register_buffer(name, tensor)
        self.register_buffer("feature_mf", feature_mf)
        self.register_buffer("known_f", (feature_mf != 0).any(dim=0))
        self.register_buffer("mean_m", torch.zeros(n_drugs))
        self.register_buffer("sd_m", torch.ones(n_drugs))
        self.register_buffer("linear_gm", torch.zeros(self.normalize.weight_g.shape[0], n_drugs))
        self.register_buffer("intercept_m", torch.zeros(n_drugs))

    @property
    def graphs(self) -> MolecularGraphs | None:
        """The training drugs' molecules, where the drug branch reads these."""
        if isinstance(self.drug, MLP):
            return None
        return MolecularGraphs(*(getattr(self, name) for name in MolecularGraphs._fields))

    def describe(self, feature_mf: Tensor, graphs: MolecularGraphs | None) -> Tensor:
        """The drug branch, (m, d)."""
        # a feature of no training drug would meet a random weight
        read = (feature_mf * self.known_f,) if graphs is None else graphs
        drug_md: Tensor = self.drug(*read)
        return drug_md

    def respond(self, cells: Mapping[str, Tensor], drug_md: Tensor) -> Tensor:
        """Each drug's response as its z-score over cells, (n, m)."""
        cell_nd: Tensor = self.cell(self.embed(cells))
        return cell_nd @ drug_md.T / float(cell_nd.shape[1] ** 0.5)

    def respond_linearly(self, cells: Mapping[str, Tensor]) -> Tensor:
        """The same by the regression of each drug on the genes."""
        x_ng: Tensor = self.normalize(cells)
        return x_ng @ self.linear_gm + self.intercept_m

    def predict(self, cells: Mapping[str, Tensor], linear_share: float = 0.0) -> Tensor:
        """Ln IC50, (n, m), of the training drugs."""
        z_nm = self.respond(cells, self.describe(self.feature_mf, self.graphs))
        if linear_share:
            z_nm = torch.lerp(z_nm, self.respond_linearly(cells), linear_share)
        return z_nm * self.sd_m + self.mean_m

    def predict_new(
        self,
        cells: Mapping[str, Tensor],
        feature_kf: Tensor,
        graphs: MolecularGraphs | None,
        linear_share: float = 0.0,
    ) -> Tensor:
        """Ln IC50, (n, k), of other drugs."""
        mean_k, sd_k = self.level(feature_kf)
        z_nk = self.respond(cells, self.describe(feature_kf, graphs))
        if linear_share:
            linear_nk = self.respond_linearly(cells) @ self.like(feature_kf).T.float()
            z_nk = torch.lerp(z_nk, linear_nk, linear_share)
        return z_nk * sd_k + mean_k

    def level(self, feature_kf: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and sd over cells of other drugs, (k,)."""
        weight_km = self.like(feature_kf)
        mean_k, log_sd_k = (
            values.mean() + weight_km @ (values.double() - values.mean()) for values in (self.mean_m, self.sd_m.log())
        )
        return mean_k.float(), log_sd_k.exp().float()

    def like(self, feature_kf: Tensor) -> Tensor:
        """What other drugs take from the training drugs, (k, m): kernel ridge regression on Tanimoto similarity."""
        known_mm = tanimoto(self.feature_mf, self.feature_mf)
        noise_mm = LEVEL_NOISE * torch.eye(len(known_mm), dtype=known_mm.dtype, device=known_mm.device)
        weight_mk: Tensor = torch.linalg.solve(known_mm + noise_mm, tanimoto(self.feature_mf, feature_kf))
        return weight_mk.T

    def loss_terms(self, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Squared error of z-scores over the pairs of cell and drug that were measured, all alike."""
        target_nm = (cells["response"] - self.mean_m) / self.sd_m
        measured_nm = ~target_nm.isnan()
        weight_nm = measured_nm / measured_nm.sum().clamp(min=1)
        response_nm = self.respond(cells, self.describe(self.feature_mf, self.graphs))
        return {"mse": squared_error(response_nm, target_nm.nan_to_num(), weight_nm)}


def tanimoto(a_mf: Tensor, b_kf: Tensor) -> Tensor:
    """Shared over all bits of two fingerprints, ``ab / (aa + bb − ab)``, (m, k) float64; also of other vectors."""
    a_mf, b_kf = a_mf.double(), b_kf.double()
    shared_mk = a_mf @ b_kf.T
    total_mk = a_mf.square().sum(dim=1)[:, None] + b_kf.square().sum(dim=1) - shared_mk
    return shared_mk / total_mk.clamp(min=1e-12)
