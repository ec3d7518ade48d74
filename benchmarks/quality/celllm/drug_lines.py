"""``celllm --task drug_lines``: ln IC50 of cell lines, for pairs, lines, drugs or both that were not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.quality.table import Table
from sc_ssl import tl
from sc_ssl.metrics import pearson

from .screen import Predict, Screen, additive_mean, deepcdr, drug_mean, ridge

DATASETS = ("celllines_ccle_gdsc",)
#: files that are read beside the data sets
NEEDS = ("drug_smiles_170.csv",)
MEASURES = ("rmse", "r2", "pearson", "pearson_per_drug")
SPLITS = ("warm", "cold cell", "cold drug", "cold both")
#: splits in which every drug is trained on
KNOWN_DRUGS = ("warm", "cold cell")
TEST_RATE = 0.2
#: Pearson over all pairs, as printed
PUBLISHED = {"CellLM (paper)": 0.934, "scBERT (paper)": 0.872}
#: responses that a drug needs in the test set to have a correlation of its own
MIN_PER_DRUG = 5


def ours(*, structure: bool = True, **options: object) -> Predict:
    """:func:`sc_ssl.tl.drug_response` at its defaults; without structure a drug is only its name."""

    def predict(screen: Screen, seed: int) -> np.ndarray:
        adata, names = screen.anndata(), screen.smiles_m.index
        drugs = screen.smiles_m if structure else pd.DataFrame(np.eye(len(names)), index=names)
        quiet = {"enable_progress_bar": False}
        tl.drug_response(
            adata, "ln_ic50", drugs, input="scaled", random_state=seed, train_kwargs=quiet, key_added="y", **options
        )
        return adata.obsm["y"].to_numpy()

    return predict


ROWS: dict[str, Predict] = {
    "DrugResponse": ours(),
    "DrugResponse, network alone": ours(linear_share=0.0),
    "DrugResponse, drugs by name": ours(structure=False),
    "DrugResponse, GIN": ours(drug_encoder="gin"),
    "DeepCDR-style": deepcdr,
    "ridge": ridge,
    "drug mean": drug_mean,
    "drug mean + line mean": additive_mean,
}
#: rows that cannot predict new drugs
KNOWN_DRUGS_ONLY = ("DrugResponse, drugs by name",)


@dataclass(frozen=True)
class Split:
    """A screen and which of its measured pairs are trained on and which tested, (n, m) bool."""

    screen: Screen
    train_nm: np.ndarray
    test_nm: np.ndarray


def split_screen(name: str, split: str, seed: int) -> Split:
    """The same for every row of a seed."""
    screen = Screen.read(name)
    return Split(screen, *divide(screen.y_nm.to_numpy(), split, seed))


class ScreenTable(Table):
    """The data sets are drug screens."""

    def check(self, datasets: Sequence[str], methods: Sequence[str] | None) -> None:
        """An error unless each data set is a screen."""
        super().check(datasets, methods)
        for name in datasets:
            Screen.read(name)


def benchmark() -> ScreenTable:
    """What the command line runs."""
    claims = ", ".join(f"{name} {value:.3f}" for name, value in PUBLISHED.items())
    printed = f"\nAs published, `pearson` of other lines and drugs and a split that is not stated: {claims}."
    return ScreenTable(
        name="celllm_drug_lines",
        command="celllm --task drug_lines",
        datasets=DATASETS,
        rows=ROWS,
        needs=NEEDS,
        counts=False,
        varied={"split": SPLITS},
        keys=("dataset", "split", "method", "seed"),
        order=("seed", "dataset", "split", "method"),
        is_wanted=lambda this: this["method"] not in KNOWN_DRUGS_ONLY or this["split"] in KNOWN_DRUGS,
        prepare=split_screen,
        shared_by=("dataset", "split", "seed"),
        fit=lambda row, split, this: row(split.screen.showing(split.train_nm), this["seed"]),
        evaluate=lambda predicted, split, this: score(split.screen.y_nm.to_numpy(), predicted, split.test_nm),
        measures=MEASURES,
        by=("dataset", "split"),
        title="{1} ({0})",
        below=(printed,),
    )


def divide(y_nm: np.ndarray, split: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which measured pairs are trained on and which tested, (n, m) bool; the same for every row of a seed."""
    rng = np.random.default_rng(seed)
    measured_nm = np.isfinite(y_nm)
    cell_n, drug_m = (rng.permutation(n) < round(TEST_RATE * n) for n in y_nm.shape)
    if split == "warm":
        test_nm = rng.random(y_nm.shape) < TEST_RATE
        return measured_nm & ~test_nm, measured_nm & test_nm
    test_n1 = cell_n[:, None] & (split != "cold drug")
    test_1m = drug_m[None, :] & (split != "cold cell")
    if split == "cold both":
        return measured_nm & ~test_n1 & ~test_1m, measured_nm & test_n1 & test_1m
    return measured_nm & ~(test_n1 | test_1m), measured_nm & (test_n1 | test_1m)


def score(y_nm: np.ndarray, predicted_nm: np.ndarray, test_nm: np.ndarray) -> dict[str, float]:
    """Errors and correlations over the pairs tested, and the mean correlation over lines of one drug."""
    y_nm, predicted_nm = y_nm.astype(float), predicted_nm.astype(float)
    y, predicted = y_nm[test_nm], predicted_nm[test_nm]
    columns = [(y_nm[rows, m], predicted_nm[rows, m]) for m, rows in enumerate(test_nm.T) if rows.sum() >= MIN_PER_DRUG]
    per_drug = [np.corrcoef(a, b)[0, 1] if b.std() > 1e-6 else 0.0 for a, b in columns]
    return {
        "rmse": float(np.sqrt(np.mean((y - predicted) ** 2))),
        "r2": float(1 - np.sum((y - predicted) ** 2) / np.sum((y - y.mean()) ** 2)),
        "pearson": pearson(y[None], predicted[None])["flattened"],
        "pearson_per_drug": float(np.mean(per_drug)),
    }
