"""Annotation with an encoder that was pretrained on other data sets: leave one data set out, few and many labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.quality.data import load, load_all, resource
from benchmarks.quality.figures import DPI
from benchmarks.quality.page import difference, markdown
from benchmarks.quality.runs import Run
from benchmarks.quality.table import Table
from sc_ssl.metrics import classification

from . import studies
from .rows import ON_DEMAND, ROWS, Predicted, Target

ORTHOLOGS = "orthologs_human_mouse_one2one.csv"
MEASURES = ("accuracy", "kappa", "macro_f1", "auprc", "auroc")
#: of these the paper counts on how many data sets pretraining is ahead
RANKING = ("auprc", "auroc")
#: labelled cells; 0 stands for the paper's min(1000, 60 %)
N_LABELS = (20, 50, 100, 0)
#: means over 60 data sets, in the paper
PUBLISHED = {
    "no pretraining (paper)": (0.888, 0.747, None, 0.784, 0.926),
    "scPretrain (paper)": (0.939, 0.882, None, 0.841, 0.975),
}
BASE = "no pretraining"


class LeftOut(Table):
    """Every study left out in turn, compared with the network without pretraining."""

    def lines(self, runs: pd.DataFrame) -> list[str]:
        """A section for each number of labelled cells."""
        return lines(runs)

    def draw(self, runs: pd.DataFrame, path: Path) -> None:
        """Each data set a point, without and with pretraining."""
        draw(runs, path)


def benchmark() -> LeftOut:
    """What the command line runs."""
    return LeftOut(
        name="scpretrain",
        command="scpretrain",
        datasets=studies.DATASETS,
        rows=ROWS,
        on_demand=ON_DEMAND,
        needs=(ORTHOLOGS,),
        varied={"n_labels": N_LABELS},
        keys=("dataset", "n_labels", "method", "seed"),
        order=("dataset", "seed", "n_labels", "method"),
        prepare=left_out,
        shared_by=("dataset",),
        fit=lambda row, target, this: row(target, labelled_cells(target, this), this["seed"]),
        evaluate=score_others,
        measures=MEASURES,
    )


def labelled_cells(target: Target, this: Run) -> np.ndarray:
    """Positions of the labelled cells of a run."""
    return split(target.labels, this["n_labels"], this["seed"])


def score_others(predicted: Predicted, target: Target, this: Run) -> dict[str, float]:
    """Scores of the cells that were not labelled."""
    proba_nk, classes = predicted
    test = np.setdiff1d(np.arange(len(target.labels)), labelled_cells(target, this))
    found = classification(target.labels[test], proba_nk[test], classes)
    return {name: float(value) for name, value in found.items()}


def left_out(name: str) -> Target:
    """A data set, and the others without labels; what shares cells with it is not among them."""
    others = {other: load_all(other) for other in studies.others(name)}
    return Target(load(name), others, resource(ORTHOLOGS))


def split(labels: np.ndarray, n_labels: int, seed: int) -> np.ndarray:
    """Positions of the labelled cells: one of every type, the rest at random; 0 is min(1000, 60 %), at most 80 %."""
    order = np.random.default_rng(seed).permutation(len(labels))
    _, first = np.unique(labels[order], return_index=True)
    order = np.concatenate([order[first], np.delete(order, first)])
    n = min(1000, int(0.6 * len(labels))) if n_labels == 0 else n_labels
    return np.sort(order[: min(max(n, len(first)), int(0.8 * len(labels)))])


def lines(runs: pd.DataFrame) -> list[str]:
    """Means over data sets, each row against the network without pretraining, and every data set's macro F1."""
    means = runs.groupby(["n_labels", "method", "dataset"], sort=False)[list(MEASURES)].mean().reset_index()
    found = [f"Data sets: {', '.join(dict.fromkeys(runs['dataset']))}."]
    for n in sorted(means["n_labels"].unique(), key=lambda n: n or np.inf):
        part = means[means["n_labels"] == n]
        wide = part.pivot(index="method", columns="dataset", values="macro_f1").reindex(part["method"].unique())
        found += ["", f"### {_n_labels(n)}", "", *markdown(_summary(part, published=n == 0), "row")]
        found += ["", "Macro F1:", "", *markdown(wide, "row")]  # a row that takes hours may not have been run on all
    return found


def _n_labels(n: int) -> str:
    return f"{n or 'min(1000, 60 %)'} labelled cells"


def _summary(means: pd.DataFrame, *, published: bool) -> pd.DataFrame:
    """Rows × mean scores, differences to the network without pretraining, and number of data sets; the paper's below."""
    base = means[means["method"] == BASE].set_index("dataset")
    rows = {}
    for method, group in means.groupby("method", sort=False):
        compared = {column: text for measure in RANKING for column, text in _against(group, base, measure).items()}
        rows[method] = {m: group[m].mean() for m in MEASURES} | compared | {"data sets": group["dataset"].nunique()}
    if published:
        rows |= {
            name: dict(zip(MEASURES, scores, strict=True)) | {"data sets": 60} for name, scores in PUBLISHED.items()
        }
    table = pd.DataFrame.from_dict(rows, orient="index").astype(dict.fromkeys(MEASURES, float))
    return table[[*table.columns.drop("data sets"), "data sets"]]


def _against(group: pd.DataFrame, base: pd.DataFrame, measure: str) -> dict[str, str]:
    """Mean difference with its interval, Wilcoxon's p and the share of data sets won."""
    both = group.set_index("dataset")[measure].to_frame("ours").join(base[measure].rename("base"), how="inner").dropna()
    known = group["method"].iloc[0] != BASE and len(both)
    found = difference(both["ours"], both["base"]) if known else dict.fromkeys(("difference", "p", "won"), "")
    columns = {
        "difference": f"{measure.upper()} against {BASE}",
        "p": f"p, {measure.upper()}",
        "won": f"won, {measure.upper()}",
    }
    return {column: found[name] for name, column in columns.items()}


def draw(runs: pd.DataFrame, path: Path) -> None:
    """Each data set a point, as Figures 2 and 4 of the paper: fine-tuning and off-the-shelf classifiers, with and without."""
    from matplotlib.figure import Figure

    pairs = [(BASE, "ScPretrain fine-tuned"), (BASE, "ScPretrain with target fine-tuned")]
    pairs += [(f"PCA-50 + {name}", f"ScPretrain with target + {name}") for name in ("logistic", "forest")]
    pairs += [("PCA-50 + SVM", "ScPretrain + SVM")]
    figure = Figure(figsize=(3.3 * len(pairs), 6.5), layout="constrained")
    runs = runs[runs["method"].isin({row for pair in pairs for row in pair})]
    if runs.empty:
        return
    means = runs.groupby(["method", "n_labels", "dataset"])[list(RANKING)].mean()
    present = set(means.index.get_level_values("method"))
    for axes_row, measure in zip(figure.subplots(2, len(pairs), squeeze=False), RANKING, strict=True):
        low = means[measure].min() - 0.02
        for axes, (before, after) in zip(axes_row, pairs, strict=True):
            axes.axline((1, 1), slope=1, color="0.7", zorder=0)
            if {before, after} <= present:
                both = pd.concat({"x": means.loc[before][measure], "y": means.loc[after][measure]}, axis=1).dropna()
                for n, points in sorted(both.groupby(level="n_labels"), key=lambda entry: entry[0] or np.inf):
                    axes.scatter(*points.to_numpy().T, s=18, label=f"{n or 'min(1000, 60 %)'} labels")
            axes.set(xlabel=before, ylabel=after, title=measure.upper(), aspect="equal")
            axes.set(xlim=(low, 1.01), ylim=(low, 1.01))
            axes.spines[["top", "right"]].set_visible(False)
    axes_row[0].legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=DPI)
