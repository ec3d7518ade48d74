"""``python -m benchmarks.quality low_counts``: types found by neighbours when cells have few counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from benchmarks.quality.cells import labelled, library_sizes, types
from benchmarks.quality.data import load
from benchmarks.quality.embeddings import Embed, ours, pca_standard, scvi
from benchmarks.quality.page import markdown
from benchmarks.quality.runs import Run
from benchmarks.quality.table import Table
from sc_ssl.data import to_csr

DATASETS = (
    "pbmc4k",
    "pbmc_kang_muscat",
    "pbmc_3tech_symphony",
    "pancreas_baron_mouse",
    "worm_neuron",
    "pbmc_zheng_facs",
)
MAX_CELLS = 4_000
#: counts a cell, at most; "all" leaves cells as they are
COUNTS = ("all", "500", "250", "100")
N_NEIGHBORS, N_FOLDS = 15, 5


def prepare(name: str, counts: str) -> AnnData:
    """At most 4,000 cells, each with that many counts at most, drawn among its own without bias; genes without any left out."""
    adata = labelled(load(name), 0, MAX_CELLS)
    if counts != "all":
        adata.X = thinned(to_csr(adata.X), int(counts))
    kept_g = np.asarray(adata.X.sum(axis=0)).ravel() > 0
    return AnnData(adata.X[:, kept_g], obs=adata.obs[["cell_type"]], var=adata.var.loc[kept_g, []])


def thinned(counts_ng: sparse.csr_matrix, at_most: int) -> sparse.csr_matrix:
    """Counts of which each is kept with the probability that leaves that many on average; always the same."""
    keep_n = np.minimum(at_most / np.maximum(library_sizes(counts_ng), 1), 1)
    found = counts_ng.copy()
    per_value = np.repeat(keep_n, np.diff(found.indptr))
    found.data = np.random.default_rng(0).binomial(found.data.astype(int), per_value).astype(np.float32)
    found.eliminate_zeros()
    return found


ROWS: dict[str, Embed] = {
    "PCA": pca_standard,
    **{name: ours(name) for name in ("pca_cosine", "nmf", "masksc", "mae")},
}
ON_DEMAND: dict[str, Embed] = {
    "scVI": scvi,
    "contrastive_sc": ours("contrastive_sc"),
    "vicreg": ours("vicreg"),
    "vicreg, counts thinned": ours("vicreg", augmentations={"binomial_thinning": 0.8}),
}


def evaluate(z_nd: np.ndarray, cells: AnnData, this: Run) -> Mapping[str, Any]:
    """Macro F1 of types by 15 neighbours (cosine) in the other folds."""
    type_n = types(cells)
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=this["seed"])
    found = cross_val_predict(KNeighborsClassifier(N_NEIGHBORS, metric="cosine"), z_nd, type_n, cv=folds)
    return {"f1": f1_score(type_n, found, average="macro", zero_division=0)}


class LowCounts(Table):
    """A table with a line a method, F1 by counts a cell, before those of the data sets."""

    def lines(self, runs: pd.DataFrame) -> list[str]:
        """Means over the data sets that all rows were run on, for all rows and for those that scVI was run on."""
        rows = [name for name in self.names if name in set(runs["method"])]
        found = []
        for title, names in (("all of them", None), ("with scVI", "scVI")):
            those = runs if names is None else runs[runs["dataset"].isin(runs["dataset"][runs["method"] == names])]
            kept = those if names else those[those["method"] != "scVI"]
            if kept.empty:
                continue
            n_sets = kept.groupby("method")["dataset"].nunique()
            kept = kept[kept["method"].map(n_sets) == n_sets.max()]
            table = kept.pivot_table(index="method", columns="counts", values="f1").reindex(columns=list(COUNTS))
            table["lost at 100"] = table["all"] - table["100"]
            table = table.reindex([name for name in rows if name in table.index])
            found += [f"### Mean macro F1 over {n_sets.max()} data sets, {title}\n", *markdown(table, "row"), ""]
        return found + super().lines(runs)


def benchmark() -> LowCounts:
    """What the command line runs."""
    return LowCounts(
        name="low_counts",
        command="low_counts",
        datasets=DATASETS,
        rows=ROWS,
        on_demand=ON_DEMAND,
        prepare=prepare,
        shared_by=("dataset", "counts"),
        fit=lambda embed, cells, this: embed(cells.copy(), this["seed"]),
        evaluate=evaluate,
        measures=("f1",),
        varied={"counts": COUNTS},
        keys=("dataset", "counts", "method", "seed"),
        order=("seed", "dataset", "counts", "method"),
        by=("dataset", "counts"),
        title="{0}, {1} counts a cell",
    )
