"""Clustering with the annotated number of clusters: our defaults beside the papers' numbers and strong baselines."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.model_selection import cross_val_predict

from sc_ssl.metrics import clustering, pca_space

from ._data import load
from ._rows import METHODS, ON_DEMAND, pca_grid
from ._runs import Runs, mean_sd, provenance

DATASETS = ("pbmc4k", "worm_neuron")
KEYS = ("dataset", "method", "seed")
MEASURES = ("ari", "nmi", "silhouette", "silhouette_common", "seconds")

#: ARI, NMI, silhouette as printed, in Table 1 of the mask-sc paper
PUBLISHED = {
    "pbmc4k": {"mask-sc (paper)": (0.806, 0.792, 0.694), "contrastive-sc (mask-sc paper)": (0.686, 0.725, 0.587)},
    "worm_neuron": {"mask-sc (paper)": (0.578, 0.719, 0.481), "contrastive-sc (mask-sc paper)": (0.450, 0.588, 0.278)},
}


def run(names: list[str], n_seeds: int, out: Path, methods: list[str] | None = None) -> None:
    """Do the runs that are missing in ``out/clustering.csv`` and write ``clustering.md`` and ``clustering.png``."""
    runs = Runs(out / "clustering.csv", KEYS)
    data = {name: load(name) for name in names}
    spaces = {name: pca_space(adata.X) for name, adata in data.items()}
    rows = METHODS | {method: row for method, row in ON_DEMAND.items() if method in (methods or ())}
    wanted = [
        {"dataset": name, "method": method, "seed": seed}
        for seed in range(n_seeds)
        for name in names
        for method in rows
        if methods is None or method in methods
    ]
    for this in runs.missing(wanted):
        adata = data[this["dataset"]].copy()
        start = time.perf_counter()
        embedding = rows[this["method"]](adata, this["seed"])
        seconds = time.perf_counter() - start
        runs.add(this | _score(embedding, adata, spaces[this["dataset"]], this["seed"]) | {"seconds": seconds})
    references = [method for method in REFERENCES if methods is None or method in methods]
    for this in runs.missing(
        [{"dataset": name, "method": method, "seed": 0} for name in names for method in references]
    ):
        runs.add(this | REFERENCES[this["method"]](data[this["dataset"]], spaces[this["dataset"]]))
    table = _table(runs.table())
    (out / "clustering.md").write_text(_page(table, runs.table()))
    _draw(table, out / "clustering.png")
    print(table.to_string())


def _score(embedding: np.ndarray, adata: AnnData, space: np.ndarray, seed: int) -> dict[str, float]:
    labels = adata.obs["cell_type"]
    scores = clustering(embedding, labels, n_clusters=labels.nunique(), common_space=space, random_state=seed)
    return {name: float(scores[name]) for name in MEASURES if name in scores}


def _pca_best_by_label(adata: AnnData, space: np.ndarray) -> dict[str, float]:
    scores = {name: _score(z, adata, space, 0) for name, z in pca_grid(adata).items()}
    best = max(scores, key=lambda name: scores[name]["ari"])
    return scores[best] | {"seconds": float("nan")}


def _supervised(adata: AnnData, space: np.ndarray) -> dict[str, float]:
    """Out-of-fold predictions of a logistic regression: how far these labels can be reached at all."""
    labels = adata.obs["cell_type"].astype(str)
    predicted = cross_val_predict(LogisticRegression(max_iter=2000), space, labels, cv=5)
    nan = float("nan")
    return {
        "ari": adjusted_rand_score(labels, predicted),
        "nmi": normalized_mutual_info_score(labels, predicted),
        "silhouette": nan,
        "silhouette_common": nan,
        "seconds": nan,
    }


#: rows that use labels, to say how much there is to be had; one run a data set
REFERENCES = {"pca_best_by_label": _pca_best_by_label, "supervised": _supervised}


def _table(runs: pd.DataFrame) -> pd.DataFrame:
    """Rows × (data set, measure) of ``mean ± sd``, the published numbers among them."""
    columns = {}
    for (name, method), group in runs.groupby(["dataset", "method"], sort=False):
        for measure in MEASURES:
            values = group[measure].dropna()
            columns.setdefault((name, measure), {})[method] = mean_sd(values) if len(values) else ""
    for name, rows in PUBLISHED.items():
        for row, numbers in rows.items():
            for measure, number in zip(MEASURES, numbers, strict=False):
                if (name, measure) in columns:
                    columns[name, measure][row] = f"{number:.3f}"
    order = [*METHODS, *ON_DEMAND, *REFERENCES, *(row for rows in PUBLISHED.values() for row in rows)]
    present = {row for cells in columns.values() for row in cells}
    rows = [row for row in dict.fromkeys(order) if row in present]
    return pd.DataFrame({column: {row: cells.get(row, "") for row in rows} for column, cells in columns.items()})


def _page(table: pd.DataFrame, runs: pd.DataFrame) -> str:
    seeds = ", ".join(map(str, sorted(runs["seed"].unique())))
    lines = [f"<!-- written by python -m sc_ssl.benchmark clustering -->\n{provenance()}; seeds {seeds}.\n"]
    for name in table.columns.levels[0]:
        part = table[name][[measure for measure in MEASURES if measure in table[name]]]
        lines += [f"\n### {name}\n", "| row | " + " | ".join(part.columns) + " |", "|---" * (1 + part.shape[1]) + "|"]
        lines += [
            f"| {row} | " + " | ".join(values) + " |" for row, values in zip(part.index, part.to_numpy(), strict=True)
        ]
    return "\n".join(lines) + "\n"


def _draw(table: pd.DataFrame, path: Path) -> None:
    """ARI and NMI of each row, one panel a data set."""
    from matplotlib.figure import Figure

    names = list(table.columns.levels[0])
    figure = Figure(figsize=(5 * len(names), 0.4 * len(table) + 1.2), layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names), sharey=True)), names, strict=True):
        position = np.arange(len(table))[::-1]
        for offset, measure in ((0.2, "ari"), (-0.2, "nmi")):
            parts = table[name, measure].str.split(" ± ")
            mean = pd.to_numeric(parts.str[0], errors="coerce")
            sd = pd.to_numeric(parts.str[1], errors="coerce").fillna(0.0)
            axes.barh(position + offset, mean, height=0.38, xerr=sd, label=measure.upper())
        axes.set(title=name, xlim=(0, 1), yticks=position, yticklabels=table.index)
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
