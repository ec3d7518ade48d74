"""Annotation with an encoder that was pretrained on other data sets: leave one data set out, few and many labels."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd

from sc_ssl.datasets._fetch import find_local
from sc_ssl.metrics import classification, paired_compare

from ._annotation_rows import ON_DEMAND, ROWS, Target
from ._data import load, load_all
from ._runs import Runs, provenance

#: labelled data sets whose genes have names; each is left out in turn
DATASETS = (
    "gut_mca_mouse",
    "pollen",
    "bonemarrow_matsushita_mouse",
    "ipsc_cm",
    "pancreas_baron_mouse",
    "celllines_mixology",
    "pbmc_zheng_facs",
    "brain_zeisel_mouse_subset",
    "pbmc_kang_muscat",
    "pbmc_3tech_symphony",
    "pbmc68k_reduced",
)
#: data sets to pretrain on that are never left out
UNLABELLED = ("pbmc_donorA_mudan", "pbmc_kang_harmony_ctrlstim", "intestine_grun_mouse", "pc9_erlotinib_day11_reps")
#: data sets that share cells or donors with another one, and are not pretrained on when that is left out
RELATED = {
    "pbmc_kang_muscat": ("pbmc_kang_harmony_ctrlstim",),
    "pbmc68k_reduced": ("pbmc_donorA_mudan", "pbmc_zheng_facs"),
    "pbmc_zheng_facs": ("pbmc68k_reduced", "pbmc_donorA_mudan"),
}
ORTHOLOGS = "orthologs_human_mouse_one2one.csv"
KEYS = ("dataset", "n_labels", "method", "seed")
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


def rows() -> tuple[str, ...]:
    """What ``--methods`` takes."""
    return (*ROWS, *ON_DEMAND)


def run(names: list[str], n_seeds: int, out: Path, methods: list[str] | None = None) -> None:
    """Do the runs that are missing in ``out/scpretrain.csv`` and write ``scpretrain.md`` and ``scpretrain.png``."""
    runs = Runs(out / "scpretrain.csv", KEYS)
    wanted_rows = ROWS | {method: row for method, row in ON_DEMAND.items() if method in (methods or ())}
    wanted = [
        {"dataset": name, "n_labels": n, "method": method, "seed": seed}
        for name in names
        for seed in range(n_seeds)
        for n in N_LABELS
        for method in wanted_rows
        if methods is None or method in methods
    ]
    target, of = None, None
    for this in runs.missing(wanted):
        if of != this["dataset"]:
            of, target = this["dataset"], left_out(this["dataset"])
        start = time.perf_counter()
        train = split(target.labels, this["n_labels"], this["seed"])
        proba_nk, classes = wanted_rows[this["method"]](target, train, this["seed"])
        test = np.setdiff1d(np.arange(len(target.labels)), train)
        score = classification(target.labels[test], proba_nk[test], classes)
        seconds = time.perf_counter() - start
        runs.add(this | {name: float(value) for name, value in score.items()} | {"seconds": seconds})
    table = runs.table()
    (out / "scpretrain.md").write_text(page(table))
    draw(table, out / "scpretrain.png")


def left_out(name: str) -> Target:
    """A data set, and the others without labels; what shares cells with it is not among them."""
    orthologs = find_local(ORTHOLOGS)
    if orthologs is None:
        raise FileNotFoundError(f"{ORTHOLOGS} is in none of the folders that SC_SSL_DATA names.")
    others = {
        other: load_all(other)
        for other in (*DATASETS, *UNLABELLED)
        if other != name and other not in RELATED.get(name, ())
    }
    return Target(load(name), others, orthologs)


def split(labels: np.ndarray, n_labels: int, seed: int) -> np.ndarray:
    """Positions of the labelled cells: one of every type, the rest at random; 0 is min(1000, 60 %), at most 80 %."""
    order = np.random.default_rng(seed).permutation(len(labels))
    _, first = np.unique(labels[order], return_index=True)
    order = np.concatenate([order[first], np.delete(order, first)])
    n = min(1000, int(0.6 * len(labels))) if n_labels == 0 else n_labels
    return np.sort(order[: min(max(n, len(first)), int(0.8 * len(labels)))])


def page(runs: pd.DataFrame) -> str:
    """Means over data sets, each row against the network without pretraining, and every data set's macro F1."""
    seeds = ", ".join(map(str, sorted(runs["seed"].unique())))
    names = list(dict.fromkeys(runs["dataset"]))
    runs = runs.sort_values("method", key=lambda method: method.map(rows().index), kind="stable")
    lines = ["<!-- written by python -m sc_ssl.benchmark scpretrain -->", f"{provenance()}; seeds {seeds}."]
    lines += [f"Data sets: {', '.join(names)}."]
    means = runs.groupby(["n_labels", "method", "dataset"], sort=False)[list(MEASURES)].mean().reset_index()
    for n in sorted(means["n_labels"].unique(), key=lambda n: n or np.inf):
        part = means[means["n_labels"] == n]
        lines += ["", f"### {n or 'min(1000, 60 %)'} labelled cells", ""]
        against = " | ".join(f"{measure.upper()} against {BASE} | p | won" for measure in RANKING)
        lines += [f"| row | {' | '.join(MEASURES)} | {against} | data sets |", "|---" * 13 + "|"]
        base = part[part["method"] == BASE].set_index("dataset")
        for method, group in part.groupby("method", sort=False):
            numbers = " | ".join(f"{group[measure].mean():.3f}" for measure in MEASURES)
            compared = " | ".join(_against(group, base, measure) for measure in RANKING)
            lines.append(f"| {method} | {numbers} | {compared} | {group['dataset'].nunique()} |")
        if n == 0:
            lines += [
                f"| {name} | {' | '.join('' if x is None else f'{x:.3f}' for x in numbers)} | | | | | | | 60 |"
                for name, numbers in PUBLISHED.items()
            ]
        wide = part.pivot(index="method", columns="dataset", values="macro_f1").reindex(part["method"].unique())
        lines += ["", "Macro F1:", "", f"| row | {' | '.join(wide)} |", "|---" * (1 + wide.shape[1]) + "|"]
        for row, values in wide.iterrows():  # a row that takes hours may not have been run on all
            lines.append(f"| {row} | {' | '.join('' if np.isnan(x) else f'{x:.3f}' for x in values)} |")
    return "\n".join(lines) + "\n"


def _against(group: pd.DataFrame, base: pd.DataFrame, measure: str) -> str:
    """Mean difference with its interval, Wilcoxon's p and the share of data sets won."""
    both = group.set_index("dataset")[measure].to_frame("ours").join(base[measure].rename("base"), how="inner").dropna()
    if group["method"].iloc[0] == BASE or both.empty:
        return " | | "
    found = paired_compare(both["ours"], both["base"])
    return f"{found['difference']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f}) | {found['p_value']:.2g} | {found['won']:.0%}"


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
    figure.savefig(path, dpi=120)
