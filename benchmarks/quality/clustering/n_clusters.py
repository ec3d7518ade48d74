"""The number of clusters without labels: candidate criteria, selected on some data sets and tested on others."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.metrics import adjusted_rand_score

from benchmarks.quality.cells import subset
from benchmarks.quality.data import load
from benchmarks.quality.figures import DPI
from benchmarks.quality.page import markdown, write_page
from benchmarks.quality.runs import Run, Runs, chosen, grid, kept
from benchmarks.quality.table import Benchmark
from sc_ssl.metrics import kmeans

from .criteria import CRITERIA, Judged
from .methods import METHODS

KEYS = ("dataset", "embedding", "seed", "n_clusters")
EMBEDDINGS = ("pca_cosine", "contrastive_sc", "masksc")
#: never used to choose: the number of clusters is only reported on them
REPORT = ("pbmc4k", "worm_neuron")
#: labelled studies; pancreas_baron_hs_mm_cider is left out, for it shares cells with pancreas_baron_mouse
DATASETS = (
    "bonemarrow_matsushita_mouse",
    "brain_zeisel_mouse_subset",
    "cbmc_cite_top2000",
    "celllines_mixology",
    "gut_mca_mouse",
    "ipsc_cm",
    "pancreas_baron_mouse",
    "pbmc68k_reduced",
    "pbmc_3tech_symphony",
    "pbmc_kang_muscat",
    "pbmc_zheng_facs",
    "pollen",
    *REPORT,
)
#: cells drawn of data sets that are used to choose
MAX_CELLS = 2_000
#: as `tl.cluster`: cells on which numbers of clusters are compared, the largest number, cells for each
MAX_JUDGED, MAX_CLUSTERS, MIN_CELLS_PER_CLUSTER = 2_000, 25, 10


class NClusters(Benchmark):
    """Every criterion for every number of clusters; ``--methods`` names embeddings."""

    def run(self, datasets: Sequence[str], n_seeds: int, out: Path, methods: Sequence[str] | None = None) -> None:
        """Do the runs that are missing in ``out/n_clusters.csv`` and write ``n_clusters.md`` and ``n_clusters.png``.

        Embeddings are kept in ``out/embeddings``, from where a later start takes them.
        """
        values = {"dataset": datasets, "embedding": chosen(self.rows, self.on_demand, methods), "seed": range(n_seeds)}
        wanted = [
            this | {"n_clusters": k}
            for this in grid(values, ("seed", "embedding", "dataset"))
            for k in default_range(_cells(this["dataset"]).n_obs)
        ]
        runs = Runs(out / "n_clusters.csv", KEYS).fill(wanted, lambda this: _score(this, out))
        choices = choose(runs)
        write_page(out / "n_clusters.md", "n_clusters", _lines(choices, references(runs)), runs)
        _figure(choices, out / "n_clusters.png")


def benchmark() -> NClusters:
    """What the command line runs."""
    rows = {name: embed for name, embed in METHODS.items() if name in EMBEDDINGS}
    return NClusters(datasets=DATASETS, rows=rows, on_demand=METHODS)


def default_range(n_cells: int) -> range:
    """Numbers of clusters that `tl.cluster` chooses from: 2 to 25, with at least ten cells each on average."""
    return range(2, max(min(MAX_CLUSTERS, n_cells // MIN_CELLS_PER_CLUSTER), 2) + 1)


def _score(this: Run, out: Path) -> dict[str, float]:
    """The ARI with a number of clusters, and every criterion."""
    name, seed, k = this["dataset"], this["seed"], this["n_clusters"]
    judged, space_nd = _judged(name, this["embedding"], seed, out)
    labels = _cells(name).obs["cell_type"]
    ari = adjusted_rand_score(labels, kmeans(space_nd, k, random_state=seed))
    return {"annotated": labels.nunique(), "ari": ari} | judged.at(k)


def choose(runs: pd.DataFrame) -> pd.DataFrame:
    """The number that each criterion takes of each embedding, its ARI, and that with the annotated number."""
    rows = []
    for (name, method, seed), curve in runs.groupby(["dataset", "embedding", "seed"], sort=False):
        curve = curve.set_index("n_clusters").sort_index()
        annotated = int(curve["annotated"].iloc[0])
        at_annotated = curve["ari"].iloc[np.abs(curve.index - annotated).argmin()]  # the nearest number in the range
        for criterion, rule in CRITERIA.items():
            k = rule(curve)
            rows.append((name, method, seed, criterion, k, annotated, curve.loc[k, "ari"], at_annotated))
    columns = ["dataset", "embedding", "seed", "criterion", "k", "annotated", "ari", "ari_annotated"]
    return pd.DataFrame(rows, columns=columns)


def left_out(choices: pd.DataFrame) -> pd.DataFrame:
    """For each data set, the criterion with the best mean ARI on the others, and its ARI on this one."""
    scores = _development(choices).pivot_table("ari", "dataset", "criterion", sort=False)
    rows = {name: scores.drop(index=name).mean().idxmax() for name in scores.index}
    return pd.DataFrame(
        {"criterion": rows, "ari": {name: scores.loc[name, criterion] for name, criterion in rows.items()}}
    )


def references(runs: pd.DataFrame) -> dict[str, float]:
    """Mean ARI of what needs labels, over the data sets to choose on."""
    runs = _development(runs)
    fixed = runs.pivot_table("ari", "dataset", "n_clusters")
    distance = (runs["n_clusters"] - runs["annotated"]).abs()
    nearest = distance == distance.groupby([runs["dataset"], runs["embedding"], runs["seed"]]).transform("min")
    return {
        "the annotated number": runs.loc[nearest, "ari"].mean(),
        "the same number for all, the best on the others": np.mean(
            [fixed.loc[name, fixed.drop(index=name).mean().idxmax()] for name in fixed.index]
        ),
        "the best number of each": runs.groupby(["dataset", "embedding", "seed"])["ari"].max().mean(),
    }


@cache
def _cells(name: str) -> AnnData:
    adata = load(name)
    return adata if name in REPORT else adata[subset(adata.n_obs, MAX_CELLS, 0)].copy()


@cache
def _judged(name: str, method: str, seed: int, out: Path) -> tuple[Judged, np.ndarray]:
    """The cells that are judged, as many as ``tl.cluster`` judges, and the whole embedding."""
    path = out / "embeddings" / f"{name}.{method}.{seed}.npy"
    space_nd = kept(path, lambda: METHODS[method](_cells(name).copy(), seed))
    return Judged(space_nd[subset(len(space_nd), MAX_JUDGED, seed)], seed), space_nd


def _development(choices: pd.DataFrame) -> pd.DataFrame:
    return choices[~choices["dataset"].isin(REPORT)]


def _means(choices: pd.DataFrame) -> pd.DataFrame:
    """Criteria by mean ARI over the data sets to choose on; the loss is against the annotated number."""
    rows = _development(choices)
    by = rows.groupby("criterion", sort=False)
    table = rows.pivot_table("ari", "criterion", "embedding", sort=False).add_prefix("ARI, ")
    table.insert(0, "ARI", by["ari"].mean())
    table["loss"] = by.apply(lambda g: (g["ari_annotated"] - g["ari"]).mean(), include_groups=False)
    table["median distance to annotated"] = by.apply(
        lambda g: (g["k"] - g["annotated"]).abs().median(), include_groups=False
    )
    return table.sort_values("ARI", ascending=False)


def _lines(choices: pd.DataFrame, by_label: dict[str, float]) -> list[str]:
    means, held = _means(choices), left_out(choices)
    best = means.index[0]
    lines = markdown(means, "criterion")
    lines += [
        f"\nLeft out in turn, a data set is best served by what is best on the others with a mean ARI of "
        f"{held['ari'].mean():.3f}; chosen: "
        + ", ".join(f"{name} ({n} of {len(held)})" for name, n in held["criterion"].value_counts().items())
        + ".\n"
    ]
    lines += ["\n| with labels, for comparison | ARI |\n|---|---|"]
    lines += [f"| {name} | {ari:.3f} |" for name, ari in by_label.items()]
    each = choices[choices["criterion"] == best].drop(columns=["criterion", "seed"])
    each = each.sort_values("embedding", kind="stable").sort_values(
        "dataset", kind="stable", key=lambda names: names.isin(REPORT)
    )
    lines += [f"\nEach data set with {best}; {' and '.join(REPORT)} were never used to choose:\n"]
    lines += markdown(each.set_index("dataset"), "data set")
    return lines


def _figure(choices: pd.DataFrame, path: Path) -> None:
    """Chosen against annotated number of clusters, a panel for each of the four best criteria."""
    from matplotlib.figure import Figure

    best = _means(choices).index[:4]
    figure = Figure(figsize=(3.4 * len(best), 4.0), layout="constrained")
    for axes, criterion in zip(figure.subplots(1, len(best), sharex=True, sharey=True), best, strict=True):
        for method, marker in zip(choices["embedding"].unique(), "osD^v", strict=False):
            for report, color in ((False, "#0072B2"), (True, "#D55E00")):
                rows = choices[(choices["criterion"] == criterion) & (choices["embedding"] == method)]
                rows = rows[rows["dataset"].isin(REPORT) == report]
                label = f"{method}{', only reported' if report else ''}"
                axes.scatter(rows["annotated"], rows["k"], marker=marker, color=color, alpha=0.7, label=label)
        axes.axline((0, 0), slope=1, color="0.6", linewidth=1, zorder=0)
        axes.set_title(criterion, fontsize=9)
        axes.set(xlabel="annotated types", xlim=(0, 26), ylim=(0, 26))
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("chosen number of clusters")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=DPI)
