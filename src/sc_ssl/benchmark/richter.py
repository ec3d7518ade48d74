"""Tasks of Richter et al. (2024) on small data: cell types by neighbours without fine-tuning, proteins from RNA."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sc_ssl import models, tl
from sc_ssl._keys import SIZE_FACTOR
from sc_ssl.data import Cells, log_expression
from sc_ssl.metrics import pca_space, pearson
from sc_ssl.models.regressor import modality_values
from sc_ssl.pp import select_genes

from ._data import load
from ._rows import QUIET, Embed, ours, pca_standard, scvi, untrained
from ._runs import Runs, mean_sd, provenance

KEYS = ("dataset", "method", "seed")
#: cells of a data set that are used at most, drawn anew for each seed
MAX_CELLS = 3000
#: types with fewer cells are left out: they could not be in every fold with neighbours left
MIN_CELLS_PER_TYPE = 10
N_FOLDS, N_NEIGHBORS = 5, 15
#: of each task
DATASETS = {
    "knn": ("pbmc_zheng_facs", "pancreas_baron_mouse", "pbmc_3tech_symphony", "pbmc4k", "worm_neuron"),
    "protein": ("cbmc_cite_top2000",),
}

#: embeddings that are scored by their neighbours
EMBEDDINGS: dict[str, Embed] = {
    "mae": ours("mae"),
    "mae, nb": ours("mae", likelihood="nb"),
    "byol": ours("byol"),
    "simsiam": ours("byol", target="online"),
    "barlow_twins": ours("barlow_twins"),
    "vicreg": ours("barlow_twins", objective="vicreg"),
    "contrastive_sc": ours("contrastive_sc"),
    "masksc": ours("masksc"),
    "pca": pca_standard,
    "random mae": untrained(models.MaskedAutoencoder),
    "random byol": untrained(models.BYOL),
}
#: rows that are run only when they are asked for by name
ON_DEMAND: dict[str, Embed] = {"scvi": scvi}

#: as printed: macro F1 and accuracy of 164 types by neighbours; proteins of the NeurIPS data
PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    "knn": {
        "mae": {"macro_f1": 0.649, "accuracy": 0.811},
        "byol": {"macro_f1": 0.123, "accuracy": 0.294},
        "barlow_twins": {"macro_f1": 0.217, "accuracy": 0.347},
        "pca": {"macro_f1": 0.065, "accuracy": 0.282},
        "random mae": {"macro_f1": 0.021, "accuracy": 0.121},
    },
    "protein": {
        "mae": {"per_feature": 0.793, "per_cell": 0.865, "flattened": 0.882},
        "from scratch": {"per_feature": 0.792, "per_cell": 0.863, "flattened": 0.881},
        "linear": {"per_feature": 0.692, "per_cell": 0.857, "flattened": 0.836},
    },
}


def run(names: list[str], n_seeds: int, out: Path, methods: list[str] | None = None, *, task: str = "knn") -> None:
    """Do the runs of a task that are missing in ``out/richter_<task>.csv``; write Markdown and a picture beside it."""
    what = TASKS[task]
    runs = Runs(out / f"richter_{task}.csv", KEYS)
    asked_for = what.rows | {name: row for name, row in what.on_demand.items() if name in (methods or ())}
    wanted = [
        {"dataset": name, "method": method, "seed": seed}
        for seed in range(n_seeds)
        for name in names
        for method in asked_for
        if methods is None or method in methods
    ]
    for this in runs.missing(wanted):
        adata = what.prepare(this["dataset"], this["seed"])
        start = time.perf_counter()
        scores = asked_for[this["method"]](adata, this["seed"])
        runs.add(this | scores | {"seconds": round(time.perf_counter() - start, 1)})
    table = _table(runs.table(), what.measures, PUBLISHED[task])
    (out / f"richter_{task}.md").write_text(_page(table, runs.table(), task))
    _draw(runs.table(), what.measures[0], out / f"richter_{task}.png")
    print(table.to_string())


def rows() -> tuple[str, ...]:
    """What ``--methods`` takes, of all tasks."""
    return tuple(dict.fromkeys(row for task in TASKS.values() for row in (*task.rows, *task.on_demand)))


# cell types by neighbours


def labelled(name: str, seed: int) -> AnnData:
    """At most 3,000 cells with a type of at least ten cells; the same for every row of a seed."""
    adata = load(name)
    adata = adata[_draw_cells(adata.n_obs, seed)]
    n_of_type = adata.obs["cell_type"].map(adata.obs["cell_type"].value_counts()).astype(int)
    return adata[(n_of_type >= MIN_CELLS_PER_TYPE).to_numpy()].copy()


def by_neighbours(embed: Embed) -> Callable[[AnnData, int], dict[str, float]]:
    """Cosine neighbours in an embedding that has seen no label; cross-validated."""

    def score(adata: AnnData, seed: int) -> dict[str, float]:
        return _classify(KNeighborsClassifier(N_NEIGHBORS, metric="cosine"), embed(adata, seed), adata, seed)

    return score


def logistic(adata: AnnData, seed: int) -> dict[str, float]:
    """Logistic regression on the most variable genes: what labels are worth."""
    classifier = make_pipeline(*_z_scores(), LogisticRegression(C=0.01, max_iter=1000))
    return _classify(classifier, _variable_genes(adata), adata, seed)


def _classify(classifier: Any, x: np.ndarray, adata: AnnData, seed: int) -> dict[str, float]:
    labels = adata.obs["cell_type"].astype(str).to_numpy()
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed)
    predicted = cross_val_predict(classifier, x, labels, cv=folds)
    return {"macro_f1": f1_score(labels, predicted, average="macro"), "accuracy": float((labels == predicted).mean())}


# proteins from RNA


def with_proteins(name: str, seed: int) -> AnnData:
    """At most 3,000 cells; ``obs["test"]`` marks the fifth whose proteins are to be predicted."""
    adata = load(name)
    adata = adata[_draw_cells(adata.n_obs, seed)].copy()
    key = next((key for key in ("protein_norm", "protein_counts") if key in adata.obsm), None)
    if key is None:
        raise KeyError(f"{name} has no obsm['protein_norm'] or obsm['protein_counts'], found {', '.join(adata.obsm)}.")
    values = modality_values(adata, key)
    adata.obsm["truth"] = np.log1p(values) if key == "protein_counts" else values
    adata.obs["test"] = np.random.default_rng(seed).permutation(adata.n_obs) < adata.n_obs // 5
    adata.obsm["protein"] = adata.obsm["truth"].mask(adata.obs["test"])
    return adata


def regressor(encoder: str | None, **options: Any) -> Callable[[AnnData, int], dict[str, float]]:
    """A network on an encoder that has seen the RNA of all cells, or from scratch."""

    def score(adata: AnnData, seed: int) -> dict[str, float]:
        tl.predict_modality(adata, encoder=encoder, random_state=seed, train_kwargs=QUIET, **options)
        return _correlate(adata, adata.obsm["protein_predicted"].to_numpy())

    return score


def ridge_on(features: Callable[[AnnData], np.ndarray]) -> Callable[[AnnData, int], dict[str, float]]:
    """Ridge regression, its penalty by cross-validation within the training cells; the seed is in the split."""

    def score(adata: AnnData, seed: int) -> dict[str, float]:
        x, train = features(adata), ~adata.obs["test"].to_numpy()
        ridge = make_pipeline(*_z_scores(), RidgeCV(np.logspace(0, 5, 11), alpha_per_target=True))
        ridge.fit(x[train], adata.obsm["truth"].to_numpy()[train])
        return _correlate(adata, ridge.predict(x))

    return score


def _correlate(adata: AnnData, predicted: np.ndarray) -> dict[str, float]:
    test = adata.obs["test"].to_numpy()
    return pearson(adata.obsm["truth"].to_numpy()[test], predicted[test])


def _variable_genes(adata: AnnData, n_genes: int = 2000) -> np.ndarray:
    """Log-normalised most variable genes, (n, g)."""
    cells = Cells.from_anndata(
        AnnData(adata.X, var=adata.var[[]]), select_genes(adata, n_genes), size_factor_key=SIZE_FACTOR
    )
    target_sum = float(np.median(cells.size_factor))
    return log_expression(sparse.csr_matrix(cells.matrix), cells.size_factor, target_sum).toarray()


def _z_scores() -> tuple[StandardScaler, FunctionTransformer]:
    """Clipped at 10: a gene that hardly varies among the training cells may be anywhere in others."""
    return StandardScaler(), FunctionTransformer(np.clip, kw_args={"a_min": -10, "a_max": 10})


def _draw_cells(n_cells: int, seed: int) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).permutation(n_cells)[:MAX_CELLS])


class Task(NamedTuple):
    """How cells are drawn, rows and measures of a task."""

    prepare: Callable[[str, int], AnnData]
    rows: dict[str, Callable[[AnnData, int], dict[str, float]]]
    on_demand: dict[str, Callable[[AnnData, int], dict[str, float]]]
    measures: tuple[str, ...]


TASKS = {
    "knn": Task(
        labelled,
        {name: by_neighbours(row) for name, row in EMBEDDINGS.items()} | {"hvg, logistic (supervised)": logistic},
        {name: by_neighbours(row) for name, row in ON_DEMAND.items()},
        ("macro_f1", "accuracy", "seconds"),
    ),
    "protein": Task(
        with_proteins,
        {
            "mae": regressor("mae"),
            "byol": regressor("byol"),
            "barlow_twins": regressor("barlow_twins"),
            "mae, frozen": regressor("mae", freeze_encoder=True),
            "from scratch": regressor(None),
            "linear": ridge_on(_variable_genes),
            "ridge on pca": ridge_on(lambda adata: pca_space(adata.X)),
        },
        {},
        ("per_feature", "per_cell", "flattened", "seconds"),
    ),
}


# the page


def _table(runs: pd.DataFrame, measures: tuple[str, ...], published: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Rows × (data set, measure) of ``mean ± sd``, and the paper's numbers in the last columns."""
    columns: dict[tuple[str, str], dict[str, str]] = {}
    for (name, method), group in runs.groupby(["dataset", "method"], sort=False):
        for measure in measures:
            columns.setdefault((name, measure), {})[method] = mean_sd(group[measure])
    rows = list(runs["method"].unique())
    for measure in measures[:-1]:
        columns["paper", measure] = {row: f"{published[row][measure]:.3f}" for row in rows if row in published}
    return pd.DataFrame({column: {row: cells.get(row, "") for row in rows} for column, cells in columns.items()})


def _page(table: pd.DataFrame, runs: pd.DataFrame, task: str) -> str:
    seeds = ", ".join(map(str, sorted(runs["seed"].unique())))
    lines = [
        f"<!-- written by python -m sc_ssl.benchmark richter --task {task} -->\n{provenance()}; seeds {seeds}. The "
        "column `paper` is of other data: encoders trained on 20 million cells, "
        + ("scored on 164 types.\n" if task == "knn" else "scored on 134 proteins of bone marrow.\n")
    ]
    for name in dict.fromkeys(table.columns.get_level_values(0)):
        part = table[name]
        lines += [f"\n### {name}\n", "| row | " + " | ".join(part.columns) + " |", "|---" * (1 + part.shape[1]) + "|"]
        filled = part[(part != "").any(axis=1)]
        lines += [
            f"| {row} | " + " | ".join(values) + " |"
            for row, values in zip(filled.index, filled.to_numpy(), strict=True)
        ]
    return "\n".join(lines) + "\n"


def _draw(runs: pd.DataFrame, measure: str, path: Path) -> None:
    """One panel a data set, a bar a row, a dot a seed."""
    from matplotlib.figure import Figure

    names, rows = list(runs["dataset"].unique()), list(runs["method"].unique())[::-1]
    figure = Figure(figsize=(1.5 + 2.6 * len(names), 0.34 * len(rows) + 1), layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names), sharey=True)), names, strict=True):
        of_name = runs[runs["dataset"] == name]
        for position, row in enumerate(rows):
            values = of_name.loc[of_name["method"] == row, measure]
            axes.barh(position, values.mean(), color="C0", alpha=0.5)
            axes.plot(values, [position] * len(values), ".", color="C0", markersize=4)
        axes.set(title=name, xlabel=measure, xlim=(0, 1), yticks=range(len(rows)), yticklabels=rows)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
