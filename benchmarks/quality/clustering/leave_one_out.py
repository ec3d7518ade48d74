"""``python -m benchmarks.quality leave_one_out``: the method that the other data sets would have chosen, on each data set.

Reads the rows of ``clustering`` in the same folder and runs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.quality.page import markdown, write_page
from benchmarks.quality.table import Benchmark

from .n_clusters import DATASETS

#: what a method is compared with, and rows that are no method of this package or see labels
SIMPLE = ("pca_standard", "pca_cosine")
CANDIDATES = ("pca_cosine", "nmf", "contrastive_sc", "masksc", "mae")


class LeaveOneOut(Benchmark):
    """Choices by the mean and by the worst case, each made without the data set that it is scored on."""

    def run(self, datasets: Sequence[str], n_seeds: int, out: Path, methods: Sequence[str] | None = None) -> None:
        """Write ``leave_one_out.md`` from ``clustering.csv``, which must be in the folder."""
        runs = pd.read_csv(out / "clustering.csv")
        ari = runs[runs["dataset"].isin(datasets)].pivot_table(index="dataset", columns="method", values="ari")
        write_page(out / "leave_one_out.md", "leave_one_out", lines(ari), runs)


def lines(ari: pd.DataFrame) -> list[str]:
    """A line a data set, and means; ``ari`` is data sets × methods."""
    known = [name for name in CANDIDATES if name in ari and ari[name].notna().all()]
    simple = ari[[name for name in SIMPLE if name in ari]].max(axis=1)
    behind = ari[known].sub(simple, axis=0)
    shown = pd.DataFrame(index=ari.index)
    for title, chosen in (
        ("best mean of the others", [ari[known].drop(name).mean().idxmax() for name in ari.index]),
        ("least far behind PCA on the others", [behind.drop(name).min().idxmax() for name in ari.index]),
    ):
        shown[title] = chosen
        shown[f"its ARI ({title.split()[0]})"] = [
            ari.loc[name, method] for name, method in zip(ari.index, chosen, strict=True)
        ]
    shown["better PCA"] = simple
    scores = shown.select_dtypes("number")
    means = pd.DataFrame([scores.mean(), (scores.sub(simple, axis=0)).min()], ["mean", "worst beside the better PCA"])
    return [*markdown(shown, "data set"), "", *markdown(means, "")]


def benchmark() -> LeaveOneOut:
    """What the command line runs."""
    return LeaveOneOut(datasets=(*DATASETS, "pancreas_baron_hs_mm_cider"), rows={name: name for name in CANDIDATES})
