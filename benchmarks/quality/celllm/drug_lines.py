"""``celllm --task drug_lines``: ln IC50 of cell lines, for pairs, lines, drugs or both that were not trained on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sc_ssl import tl
from sc_ssl.metrics import pearson

from ._bars import draw_bars
from ._runs import Runs, page
from ._screen import Predict, Screen, additive_mean, deepcdr, drug_mean, ridge

DATASETS = ("celllines_ccle_gdsc",)
#: files that are read beside the data sets
NEEDS = ("drug_smiles_170.csv",)
KEYS = ("dataset", "split", "method", "seed")
MEASURES = ("rmse", "r2", "pearson", "pearson_per_drug")
SPLITS = ("warm", "cold cell", "cold drug", "cold both")
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
#: rows that say nothing of new drugs
KNOWN_DRUGS_ONLY = ("DrugResponse, drugs by name",)


def run(names: list[str], n_seeds: int, out: Path, methods: list[str] | None = None) -> None:
    """Do the runs that are missing in ``out/celllm_drug_lines.csv`` and write its page and picture."""
    runs = Runs(out / "celllm_drug_lines.csv", KEYS)
    wanted = [
        {"dataset": name, "split": split, "method": method, "seed": seed}
        for seed in range(n_seeds)
        for name in names
        for split in SPLITS
        for method in ROWS
        if (methods is None or method in methods) and not ("drug" in split and method in KNOWN_DRUGS_ONLY)
        if not (split == "cold both" and method in KNOWN_DRUGS_ONLY)
    ]
    for this in runs.missing(wanted):
        screen = Screen.read(this["dataset"])
        train_nm, test_nm = divide(screen.y_nm.to_numpy(), this["split"], this["seed"])
        start = time.perf_counter()
        predicted = ROWS[this["method"]](screen.showing(train_nm), this["seed"])
        seconds = round(time.perf_counter() - start, 1)
        scores = score(screen.y_nm.to_numpy(), predicted, test_nm)
        runs.add(this | {name: round(value, 4) for name, value in scores.items()} | {"seconds": seconds})
    table = runs.table()
    claims = ", ".join(f"{name} {value:.3f}" for name, value in PUBLISHED.items())
    printed = f"\nAs published, `pearson` of other lines and drugs and a split that is not said: {claims}."
    by_split: dict[str, Any] = {"by": ["dataset", "split"], "title": "{1} ({0})", "below": [printed]}
    (out / "celllm_drug_lines.md").write_text(
        page(table, "celllm --task drug_lines", [*MEASURES, "seconds"], **by_split)
    )
    draw_bars(table, MEASURES, out / "celllm_drug_lines.png", by="split")


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
