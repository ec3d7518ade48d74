"""Figure 5 of the mask-sc paper: the size of the matrix and the share of it that is masked."""

import re
from itertools import product

import matplotlib.pyplot as plt
import pandas as pd

from benchmarks.quality.clustering.folder import Folder
from benchmarks.quality.clustering.scores import measure
from benchmarks.quality.embeddings import Embed, ours
from benchmarks.quality.figures import DPI
from benchmarks.quality.page import markdown, seeds
from sc_ssl import pl

TABLE = "masksc_figure_5"
#: edges of the matrix; PBMC 4k has 2,000 genes
SIDES = {"pbmc4k": (24, 36, 40, 44)}
PAPER_SIDES = (36, 64, 80, 100)
RATES = (0.10, 0.25, 0.50, 0.75, 0.90)
#: what the paper keeps while it changes the other: its size, or the largest where there are fewer genes
RATE, SIDE = 0.75, 64


def fill(folder: Folder, names: list[str], n_seeds: int) -> None:
    """Do the runs that are missing; a quick run changes one of the two at a time."""
    measure(folder, TABLE, {name: rows(name, folder) for name in names}, n_seeds)


def rows(name: str, folder: Folder) -> dict[str, Embed]:
    """MaskSC with each size and rate, those that the paper shows first."""
    n_genes = folder.cells(name).n_vars
    sides = [s for s in SIDES.get(name, PAPER_SIDES) if s**2 <= n_genes] or [int(n_genes**0.5)]
    side = SIDE if SIDE in sides else max(sides)
    grid = sorted(product(sides, RATES), key=lambda cell: cell[0] != side and cell[1] != RATE)
    return {
        f"side={s} mask_rate={rate}": ours("masksc", n_top_genes=s**2, mask_rate=rate, max_epochs=folder.max_epochs)
        for s, rate in grid
        if not folder.quick or s == side or rate == RATE
    }


def section(folder: Folder) -> list[str]:
    """The grid and its best and worst settings, in Markdown; draws the figure."""
    runs = folder.table(TABLE)
    parsed = runs["method"].map(lambda method: re.fullmatch(r"side=(\d+) mask_rate=([\d.]+)", method).groups())
    runs = runs.assign(side=[int(s) for s, _ in parsed], rate=[100 * float(rate) for _, rate in parsed])
    names = list(dict.fromkeys(runs["dataset"]))
    lines = [
        "`MaskSC` with its defaults, on the most variable genes that fill the matrix; mean over "
        f"{seeds(runs)}. The paper has the best numbers at 64 × 64 and 75 %, and a fall of the "
        "silhouette with larger matrices.\n",
        "![ARI, NMI and silhouette by size of the matrix and share masked](masksc_figure_5.png)",
    ]
    for name in names:
        here = runs[runs["dataset"] == name]
        ari = _grid(here, "ari")
        columns = ari.rename(columns=lambda rate: f"{rate:.0f} % masked").map(
            lambda v: "" if pd.isna(v) else f"{v:.3f}"
        )
        lines += [f"\n### {name}: ARI\n", *markdown(columns.rename(index=lambda s: f"{s} × {s}"), "matrix")]
        lines += ["", *_findings(here, ari)]
    _draw(folder, runs, names)
    return lines


def _grid(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    grid = runs.pivot_table(column, "side", "rate")
    return grid.rename_axis(index="edge of the matrix", columns="genes masked (%)")


def _findings(runs: pd.DataFrame, ari: pd.DataFrame) -> list[str]:
    side, rate = ari.stack().idxmax()
    spread = runs.groupby(["side", "rate"])["ari"].std(ddof=0).mean()
    lines = [
        f"- Best ARI {ari.max().max():.3f} at {side} × {side} and {rate:.0f} %, worst {ari.min().min():.3f}"
        + (f"; the seeds of one setting differ by {spread:.3f} (mean standard deviation)." if spread > 0 else ".")
    ]
    sizes = ari[100 * RATE].dropna() if 100 * RATE in ari else pd.Series(dtype=float)
    if len(sizes) > 1:
        silhouette = _grid(runs, "silhouette")[100 * RATE].dropna()
        lines += [
            f"- From {sizes.index[0]} to {sizes.index[-1]} with {RATE:.0%} masked, ARI goes from {sizes.iloc[0]:.3f} to "
            f"{sizes.iloc[-1]:.3f} and the silhouette from {silhouette.iloc[0]:.3f} to {silhouette.iloc[-1]:.3f}."
        ]
    return lines


def _draw(folder: Folder, runs: pd.DataFrame, names: list[str]) -> None:
    measures = {"ari": "ARI", "nmi": "NMI", "silhouette": "silhouette"}
    figure, grid = plt.subplots(
        len(names), len(measures), figsize=(4 * len(measures), 3.2 * len(names)), squeeze=False, layout="constrained"
    )
    for row, name in zip(grid, names, strict=True):
        for ax, (column, label) in zip(row, measures.items(), strict=True):
            pl.sweep(_grid(runs[runs["dataset"] == name], column), measure=label, ax=ax, show=False)
            ax.set_title(name, fontsize=10)
    figure.savefig(folder.path / f"{TABLE}.png", dpi=DPI)
    plt.close(figure)
