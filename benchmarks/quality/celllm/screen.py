"""Cell lines and drugs of a screen, and simple predictors of the responses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.linalg import solve
from sklearn.model_selection import KFold

from benchmarks.quality.data import load_all, resource
from sc_ssl.train import seeded

from . import deepcdr as deepcdr_network

#: penalties that are tried, and folds of cells over which they are
PENALTIES, N_FOLDS = (300.0, 1000.0, 3000.0, 10000.0), 3
#: noise of a drug beside what its structure explains, in units of its variance
DRUG_NOISE = 1.0


@dataclass(frozen=True)
class Screen:
    """Expression (n, g) and responses (n, m) of cell lines, NaN where hidden or not measured; drugs by SMILES (m,)."""

    x_ng: pd.DataFrame
    y_nm: pd.DataFrame
    smiles_m: pd.Series

    @classmethod
    def read(cls, name: str) -> Screen:
        """The cell lines with ln IC50 in ``obsm``, and the SMILES of their drugs."""
        adata = load_all(name)
        if "drug_names" not in adata.uns or "ln_ic50" not in adata.obsm:
            raise ValueError(
                f"{name} should be a drug screen, with ln IC50 in obsm['ln_ic50'] and the drugs in uns['drug_names']; found "
                f"obsm {', '.join(adata.obsm) or 'none'} and uns {', '.join(adata.uns) or 'none'}."
            )
        drugs = pd.Index(adata.uns["drug_names"])
        table = pd.read_csv(resource("drug_smiles_170.csv")).set_index("drug_name")
        return cls(
            adata.to_df(),
            pd.DataFrame(adata.obsm["ln_ic50"], index=adata.obs_names, columns=drugs),
            table.loc[drugs, "IsomericSMILES"],
        )

    def showing(self, shown_nm: np.ndarray) -> Screen:
        """The same screen with only these responses, (n, m) or (n, 1)."""
        return Screen(self.x_ng, self.y_nm.where(np.broadcast_to(shown_nm, self.y_nm.shape)), self.smiles_m)

    def anndata(self) -> AnnData:
        """As :func:`sc_ssl.tl.drug_response` takes it."""
        return AnnData(self.x_ng.astype(np.float32), obsm={"ln_ic50": self.y_nm})

    def fingerprints(self) -> np.ndarray:
        """Morgan fingerprints of radius 2, (m, 2048)."""
        from rdkit.Chem import MolFromSmiles
        from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

        generator = GetMorganGenerator(radius=2, fpSize=2048)
        bits = [generator.GetFingerprintAsNumPy(MolFromSmiles(smiles)) for smiles in self.smiles_m]
        return np.stack(bits).astype(np.float32)


#: a screen and a seed → predictions for all its lines and drugs, (n, m)
Predict = Callable[[Screen, int], np.ndarray]


def drug_mean(screen: Screen, seed: int) -> np.ndarray:
    """A drug's mean over cell lines; that of all responses for a drug without any."""
    mean_m = screen.y_nm.mean()
    return np.tile(mean_m.fillna(mean_m.mean()), (len(screen.y_nm), 1))


def additive_mean(screen: Screen, seed: int) -> np.ndarray:
    """The drug's mean and how much more or less sensitive the line is to all drugs."""
    of_drug = drug_mean(screen, seed)
    return of_drug + (screen.y_nm - of_drug).mean(axis=1).fillna(0).to_numpy()[:, None]


def ridge(screen: Screen, seed: int) -> np.ndarray:
    """Ridge regression of each drug on expression, one penalty for all by cross-validation over lines.

    Drugs without responses take those of the others in proportion to how alike they are: kernel ridge regression on
    Tanimoto similarity, the second of two steps (Stock et al. 2018).
    """
    x_ng, y_nm = screen.x_ng.to_numpy(float), screen.y_nm.to_numpy(float)
    known_m = np.isfinite(y_nm).any(axis=0)
    mean_m = np.nanmean(y_nm[:, known_m], axis=0)
    residual_nk = y_nm[:, known_m] - mean_m
    x_ng = x_ng - x_ng[np.isfinite(residual_nk).any(axis=1)].mean(axis=0)
    linear_nn = x_ng @ x_ng.T
    errors = {penalty: _cross_validated(linear_nn, residual_nk, penalty, seed) for penalty in PENALTIES}
    predicted_nk = _dual_ridge(linear_nn, residual_nk, min(errors, key=errors.__getitem__))
    if known_m.all():
        return predicted_nk + mean_m
    weight_mk = _alike(screen.fingerprints(), known_m)
    predicted_nm = predicted_nk @ weight_mk.T + mean_m.mean() + (mean_m - mean_m.mean()) @ weight_mk.T
    predicted_nm[:, known_m] = predicted_nk + mean_m
    return predicted_nm


def deepcdr(screen: Screen, seed: int) -> np.ndarray:
    """A network in DeepCDR's style."""
    with seeded(seed):
        return deepcdr_network.train(
            screen.x_ng.to_numpy(np.float32), screen.fingerprints(), screen.y_nm.to_numpy(np.float32)
        )


def _cross_validated(linear_nn: np.ndarray, y_nk: np.ndarray, penalty: float, seed: int) -> float:
    """Squared error over held-out lines."""
    lines, error = np.flatnonzero(np.isfinite(y_nk).any(axis=1)), 0.0
    for _, held in KFold(N_FOLDS, shuffle=True, random_state=seed).split(lines):
        shown_nk = y_nk.copy()
        shown_nk[lines[held]] = np.nan
        error += np.nansum(np.square(_dual_ridge(linear_nn, shown_nk, penalty) - y_nk)[lines[held]])
    return error


def _dual_ridge(linear_nn: np.ndarray, y_nk: np.ndarray, penalty: float) -> np.ndarray:
    """Predictions (n, k); each column is fitted on the rows where it is measured."""
    predicted_nk = np.zeros(y_nk.shape)
    for k, y_n in enumerate(y_nk.T):
        rows = np.flatnonzero(np.isfinite(y_n))
        inner = linear_nn[np.ix_(rows, rows)] + penalty * np.eye(len(rows))
        mean = y_n[rows].mean()
        predicted_nk[:, k] = mean + linear_nn[:, rows] @ solve(inner, y_n[rows] - mean, assume_a="pos")
    return predicted_nk


def _alike(bits_mf: np.ndarray, known_m: np.ndarray) -> np.ndarray:
    """How much each drug (m) takes from each known one (k)."""
    shared = bits_mf @ bits_mf.T
    n_bits = bits_mf.sum(axis=1)
    tanimoto = shared / (n_bits[:, None] + n_bits - shared)
    among_known = tanimoto[np.ix_(known_m, known_m)]
    return np.linalg.solve(among_known + DRUG_NOISE * np.eye(len(among_known)), tanimoto[known_m]).T
