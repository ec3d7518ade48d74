"""Clustering with the annotated number of clusters: our defaults beside the paper's numbers and strong baselines."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.model_selection import cross_val_predict

from benchmarks.quality.page import markdown, write_page
from benchmarks.quality.runs import chosen, grid
from benchmarks.quality.table import Benchmark
from sc_ssl import pl

from . import methods
from .folder import Folder
from .published import TABLE_1
from .scores import Scores, measure, score

DATASETS = ("pbmc4k", "worm_neuron")
TABLE = "clustering"
#: more data sets than this fill a figure with one measure
MANY = 3
#: measures that are averaged over data sets
MEANS = ("ari", "nmi")
#: the methods that are ranked among each other, and the baseline that none should be far below
RIVALS = ("masksc", "contrastive_sc", "scdeepcluster", "sczidesk", "pca_cosine", "nmf", "scmae", "mae", "scvi")
FLOOR = "pca_cosine"
#: measures in the figure, and their names there
SHOWN = {"ari": "ARI", "nmi": "NMI", "silhouette": "silhouette", "silhouette_common": "silhouette,\none space"}


class Clustering(Benchmark):
    """The table on each data set, means over data sets, and a heat table."""

    def run(self, datasets: Sequence[str], n_seeds: int, out: Path, methods: Sequence[str] | None = None) -> None:
        """Do the runs that are missing in ``out/clustering.csv`` and write ``clustering.md`` and ``clustering.png``."""
        folder = Folder(out)
        fill(folder, datasets, n_seeds, methods)
        lines = [*overall(folder), *tables(folder)]
        write_page(out / "clustering.md", "clustering", lines, folder.table(TABLE))
        draw(folder, out / "clustering.png")


def benchmark() -> Clustering:
    """What the command line runs."""
    return Clustering(datasets=DATASETS, rows=methods.METHODS, on_demand=methods.ON_DEMAND | REFERENCES)


def fill(folder: Folder, datasets: Sequence[str], n_seeds: int, named: Sequence[str] | None = None) -> None:
    """Do the runs that are missing: every row by default, or those named; references once."""
    wanted = chosen(methods.METHODS, methods.ON_DEMAND, named)
    measure(folder, TABLE, dict.fromkeys(datasets, wanted), n_seeds, keep=True)
    references = chosen(REFERENCES, {}, named)
    folder.runs(TABLE).fill(
        grid({"dataset": datasets, "method": references, "seed": [0]}),
        lambda this: references[this["method"]](folder, this["dataset"]),
    )


def order() -> list[str]:
    """All rows, in the order of the table."""
    return [*methods.METHODS, *methods.ON_DEMAND, *REFERENCES]


def scores(folder: Folder) -> Scores:
    """All rows that were run, and those that the paper has."""
    return Scores.of(folder.table(TABLE), order(), TABLE_1)


def tables(folder: Folder) -> list[str]:
    """Lines of a Markdown table for each data set."""
    runs, gathered = folder.table(TABLE), scores(folder)
    lines = []
    for name in dict.fromkeys(runs["dataset"]):
        lines += [f"\n### {name}\n", *markdown(gathered.text(runs, name), "row")]
    return lines


def overall(folder: Folder) -> list[str]:
    """Means over all data sets, and ranks by ARI among the rows that each of them has; nothing for one or two."""
    gathered = scores(folder)
    ari, nmi = (gathered.mean.xs(measure, axis=1, level=1).drop(REFERENCES, errors="ignore") for measure in MEANS)
    everywhere = ari.index[ari.notna().all(axis=1)]
    if ari.shape[1] < 3 or len(everywhere) < 2:
        return []
    ari, nmi = ari.loc[everywhere], nmi.loc[everywhere]
    table = pd.DataFrame({"mean ARI": ari.mean(axis=1), "mean NMI": nmi.mean(axis=1)})
    rivals = [row for row in RIVALS if row in everywhere]
    table["mean rank"] = ari.rank(ascending=False).mean(axis=1)
    table["of the methods"] = ari.loc[rivals].rank(ascending=False).mean(axis=1)
    if FLOOR in everywhere:
        table[f"worst against {FLOOR}"] = (ari - ari.loc[FLOOR]).min(axis=1)
    table = table.sort_values("mean ARI", ascending=False)
    return [
        "\n### All\n",
        f"Over all {ari.shape[1]} data sets: means, and mean rank by ARI, among all rows and among {', '.join(rivals)}; "
        f"the last column is the difference in ARI on the data set where it is lowest.\n",
        *markdown(table.map(lambda value: "" if np.isnan(value) else f"{value:.3f}"), "row"),
    ]


def draw(folder: Folder, path: Path) -> None:
    """The rows found without labels as a heat table; of many data sets, ARI alone."""
    gathered = scores(folder)
    rows = [row for row in gathered.mean.index if row not in REFERENCES and gathered.n.loc[row].any()]
    tables = [table.loc[rows] for table in (gathered.mean, gathered.sd, gathered.published)]
    if len(gathered.names) > MANY:
        tables = [table.xs("ari", axis=1, level=1) for table in tables]
    else:
        shown = [column for column in gathered.mean.columns if column[1] in SHOWN]
        tables = [table[shown].rename(columns=SHOWN, level=1) for table in tables]
    ours, sd, published = tables
    figure = pl.score_table(ours, sd=sd, published=published, return_fig=True)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)


def _pca_best_by_label(folder: Folder, name: str) -> dict[str, float]:
    found = [score(z, folder, name, 0) for z in methods.pca_grid(folder.cells(name)).values()]
    return max(found, key=lambda scores: scores["ari"]) | {"seconds": float("nan")}


def _supervised(folder: Folder, name: str) -> dict[str, float]:
    """Out-of-fold predictions of a logistic regression: how well these labels can be predicted at all."""
    labels = folder.cells(name).obs["cell_type"].astype(str)
    predicted = cross_val_predict(LogisticRegression(max_iter=2000), folder.common_space(name), labels, cv=5)
    return {
        "ari": adjusted_rand_score(labels, predicted),
        "nmi": normalized_mutual_info_score(labels, predicted),
        "silhouette": np.nan,
        "silhouette_common": np.nan,
        "seconds": np.nan,
    }


#: rows that use labels: how high these scores can be at all; one run a data set
REFERENCES = {"pca_best_by_label": _pca_best_by_label, "supervised": _supervised}
