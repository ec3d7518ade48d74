"""Scores of clusterings: run, and gathered over seeds."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.quality.embeddings import Embed
from benchmarks.quality.page import mean_sd
from benchmarks.quality.runs import Run, grid, timed
from sc_ssl.metrics import clustering, kmeans

from .folder import Folder
from .methods import BY_LARGEST

MEASURES = ("ari", "nmi", "silhouette", "silhouette_common", "seconds")


def measure(folder: Folder, table: str, rows: dict[str, dict[str, Embed]], n_seeds: int, *, keep: bool = False) -> None:
    """Do the runs that are missing in a table, ``rows[dataset][method]`` with each seed; ``keep`` the first embeddings."""

    def run(this: Run) -> dict[str, float]:
        name, seed = this["dataset"], this["seed"]
        embedding, taken = timed(rows[name][this["method"]], folder.cells(name), seed)
        if keep and seed == 0:
            folder.keep(name, this["method"], seed, embedding)
        clusters = embedding.argmax(axis=1) if this["method"] in BY_LARGEST else None
        return score(embedding, folder, name, seed, clusters) | {"seconds": taken["seconds"]}

    wanted = [
        this
        for name, methods in rows.items()
        for this in grid({"dataset": [name], "method": methods, "seed": range(n_seeds)})
    ]
    folder.runs(table).fill(sorted(wanted, key=lambda this: this["seed"]), run)  # the first seed of all comes first


def score(
    embedding: np.ndarray, folder: Folder, name: str, seed: int, clusters: np.ndarray | None = None
) -> dict[str, float]:
    """Clusters, by default those of K-means with the annotated number, compared with the annotation."""
    labels, space = folder.cells(name).obs["cell_type"], folder.common_space(name)
    if clusters is None:
        clusters = kmeans(embedding, labels.nunique(), random_state=seed)
    scores = clustering(embedding, labels, clusters=clusters, common_space=space)
    return {measure: float(scores[measure]) for measure in MEASURES if measure in scores}


@dataclass
class Scores:
    """Rows × (data set, measure) over seeds: means, standard deviations and numbers of seeds; and published numbers."""

    mean: pd.DataFrame
    sd: pd.DataFrame
    n: pd.DataFrame
    published: pd.DataFrame

    @classmethod
    def of(cls, runs: pd.DataFrame, order: list[str], published: dict[str, dict[str, tuple[float, ...]]]) -> "Scores":
        """Gather runs; ``published[dataset][row]`` holds ARI, NMI and silhouette, and rows stand in this order."""
        names = list(dict.fromkeys(runs["dataset"]))
        columns = pd.MultiIndex.from_product([names, MEASURES])
        known = {row for name in names for row in published.get(name, {})}
        rows = [row for row in dict.fromkeys(order) if row in {*runs["method"], *known}]
        by = runs.groupby(["dataset", "method"])[list(MEASURES)]
        gathered = [
            values.unstack("dataset").swaplevel(axis=1).reindex(index=rows, columns=columns)
            for values in (by.mean(), by.std(ddof=0).where(by.count() > 1), by.count())
        ]
        numbers = {
            (name, measure): {row: values[i] for row, values in published.get(name, {}).items()}
            for name in names
            for i, measure in enumerate(MEASURES[:3])
        }
        return cls(*gathered, pd.DataFrame(numbers, columns=columns).reindex(rows).astype(float))

    @property
    def names(self) -> list[str]:
        """The data sets."""
        return list(dict.fromkeys(self.mean.columns.get_level_values(0)))

    def text(self, runs: pd.DataFrame, name: str) -> pd.DataFrame:
        """One data set's rows × measures as ``mean ± sd``, a published number in brackets beside.

        The number of seeds stands beside a row that has fewer than others.
        """
        cells = {}
        for measure in MEASURES:
            for row in self.mean.index:
                values = runs.loc[(runs["dataset"] == name) & (runs["method"] == row), measure].dropna()
                published = self.published.loc[row, (name, measure)]
                ours = mean_sd(values) if len(values) else ""
                cells[row, measure] = ours if np.isnan(published) else f"{ours} ({published:.3f})".strip()
        table = pd.Series(cells).unstack().reindex(index=self.mean.index, columns=list(MEASURES))
        n = self.n[name, "ari"].fillna(0).astype(int)
        fewer = {row: f"{row}, {n[row]} of {n.max()} seeds" for row in table.index if 0 < n[row] < n.max()}
        return table[(table != "").any(axis=1)].rename(index=fewer)
