"""``python -m benchmarks.quality integration``: this package's methods beside Harmony, ComBat, Scanorama, Concord and scVI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import sparse

from benchmarks.quality.embeddings import Embed, ours, pca_standard, scvi
from benchmarks.quality.figures import DPI
from benchmarks.quality.page import markdown
from benchmarks.quality.runs import Run
from benchmarks.quality.table import Table
from sc_ssl.pp import select_genes

from . import negatives, peers
from .batches import BATCH, COMPOSITIONS, prepare
from .scores import score

MEASURES = ("ari", "f1", "mix")
OWN = ("pca_cosine", "masksc", "mae", "contrastive_sc", "barlow_twins", "vicreg", "simclr", "byol")
COLORS = {"named": "tab:red", "unnamed": "tab:orange", "others": "0.35"}
LEGEND = {"named": "sc_ssl, batch_key named", "unnamed": "sc_ssl, not named", "others": "others"}
#: room of a label in the picture, in units of its axes
LABEL_WIDTH, LABEL_HEIGHT = 0.05, 0.026
TITLES = {"even": "batches as they are", "shift": "each batch lacks a major type"}
#: as in `pca_standard`
N_TOP_GENES, N_COMPONENTS, CLIP = 2_000, 50, 10.0
DATASETS = (
    "pbmc_kang_muscat",
    "pbmc_3tech_symphony",
    "celllines_mixology",
    "pancreas_baron_mouse",
    "pancreas_baron_hs_mm_cider",
    "gut_mca_mouse",
)


def logged(adata: AnnData) -> AnnData:
    """2,000 genes that vary within batches, log-normalised."""
    cells = AnnData(adata.X.copy(), obs=adata.obs[[BATCH]].copy(), var=adata.var[[]].copy())
    sc.pp.normalize_total(cells)
    sc.pp.log1p(cells)
    return cells[:, select_genes(adata, N_TOP_GENES, batch_key=BATCH)].copy()


def combat(adata: AnnData, seed: int) -> np.ndarray:
    """Components of ComBat's corrected expression; the same for every seed."""
    cells = logged(adata)
    cells.X = cells.X.toarray().astype(np.float64)
    cells = cells[:, cells.X.std(axis=0) > 0].copy()
    sc.pp.combat(cells, BATCH)
    return components(cells)


def peer(name: str) -> Embed:
    """A method of others, in the environment of the peers."""

    def embed(adata: AnnData, seed: int) -> np.ndarray:
        cells = logged(adata)
        log_ng = cells.X.toarray()
        batch_n = cells.obs[BATCH].to_numpy(str)
        return peers.run(name, seed, log=log_ng, components=components(cells), batch=batch_n)["z"]

    return embed


def components(cells: AnnData) -> np.ndarray:
    """50 principal components of z-scores clipped at 10."""
    dense = cells.X.toarray() if sparse.issparse(cells.X) else cells.X
    scaled = sc.pp.scale(np.array(dense, dtype=np.float64), max_value=CLIP)  # a copy: it is scaled in place
    return sc.pp.pca(scaled.astype(np.float32), n_comps=min(N_COMPONENTS, min(scaled.shape) - 1), random_state=0)


ROWS: dict[str, Embed] = {
    "PCA": pca_standard,
    "pca_cosine": ours("pca_cosine"),
    "pca_cosine, batch named": ours("pca_cosine", batch_key=BATCH),
    "Harmony": peer("harmony"),
    "ComBat": combat,
    "Scanorama": peer("scanorama"),
    "Concord": peer("concord"),
    "scVI": partial(scvi, batch_key=BATCH),
    **{name: ours(name) for name in ("masksc", "mae", "contrastive_sc")},
    **{f"{name}, batch named": ours(name, batch_key=BATCH) for name in ("masksc", "mae", "contrastive_sc")},
}
ON_DEMAND: dict[str, Embed] = {
    f"{name}{'' if key is None else ', batch named'}": ours(name, batch_key=key)
    for name in ("barlow_twins", "vicreg", "simclr", "byol")
    for key in (None, BATCH)
} | negatives.ROWS


class Integration(Table):
    """A table with a summary before it, and a picture of mixing against types found."""

    def lines(self, runs: pd.DataFrame) -> list[str]:
        """Means over data sets and ranks, then each data set."""
        return [*summary(runs, self.names), "", *super().lines(runs)]

    def draw(self, runs: pd.DataFrame, path: Path) -> None:
        """The picture."""
        trade_off(runs, self.names, path)


def means(runs: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Rows × (composition, measure): means over the data sets that all rows were run on."""
    seeds = runs.groupby(["method", "composition", "dataset"])[list(MEASURES)].mean()
    complete = seeds.groupby(["composition", "dataset"]).size() == runs["method"].nunique()
    kept = seeds.reset_index().set_index(["composition", "dataset"]).loc[complete[complete].index].reset_index()
    table = kept.groupby(["method", "composition"])[list(MEASURES)].mean().unstack("composition")
    return table.reindex([name for name in names if name in table.index])


def summary(runs: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Means of each measure, and the mean rank by F1 and by mixing over data sets and compositions."""
    by_set = runs.groupby(["dataset", "composition", "method"])[["f1", "mix"]].mean()
    rank = by_set.groupby(["dataset", "composition"]).rank(ascending=False).groupby("method").mean().mean(axis=1)
    table = means(runs, names)
    shown = pd.DataFrame(
        {
            f"{measure}, {kind}": table[measure, kind]
            for measure in MEASURES
            for kind in COMPOSITIONS
            if kind in table[measure]
        }
    )
    shown["mean rank by f1 and mix"] = rank.reindex(shown.index)
    return ["### Means over data sets\n", *markdown(shown, "row")]


def trade_off(runs: pd.DataFrame, names: Sequence[str], path: Path) -> None:
    """Types found across batches against batches mixed, a panel a composition: the best corner is at the top right."""
    table = means(runs, names)
    kinds = [kind for kind in COMPOSITIONS if kind in table["f1"]]
    figure = Figure(figsize=(5.8 * len(kinds), 5), layout="constrained")
    panels = figure.subplots(1, len(kinds), sharex=True, sharey=True, squeeze=False)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        placed: list[tuple[float, float]] = []
        for name in table["mix", kind].sort_values().index:
            x, y = table["f1", kind][name], table["mix", kind][name]
            group = "named" if name.endswith("batch named") else "unnamed" if name.split(",")[0] in OWN else "others"
            axes.scatter(x, y, color=COLORS[group], s=36, zorder=3)
            # labels from the bottom up: each above those that it would cover
            below = [other_y for other_x, other_y in placed if abs(other_x - x) < LABEL_WIDTH]
            label_y = max([y, *(other_y + LABEL_HEIGHT for other_y in below if other_y + LABEL_HEIGHT > y)])
            placed.append((x, label_y))
            text = name.removesuffix(", batch named")
            axes.annotate(text, (x, label_y), (6, -3), textcoords="offset points", fontsize=9, color=COLORS[group])
        axes.set(title=TITLES[kind], xlabel="types found across batches (macro F1)")
        axes.grid(color="0.9")
        axes.margins(x=0.2, y=0.08)
    panels[0].set_ylabel("batches mixed within types (1: as well as possible)")
    dots = [
        Line2D([], [], marker="o", linestyle="", color=color, label=LEGEND[group]) for group, color in COLORS.items()
    ]
    panels[0].legend(handles=dots, loc="upper left", fontsize=9)
    figure.savefig(path, dpi=DPI)


def evaluate(z_nd: np.ndarray, adata: AnnData, this: Run) -> Mapping[str, Any]:
    """Scores by types that no method saw."""
    return score(z_nd, adata.obs["cell_type"].to_numpy(), adata.obs[BATCH].astype(str).to_numpy(), seed=this["seed"])


def benchmark() -> Table:
    """What the command line runs."""
    return Integration(
        name="integration",
        command="integration",
        datasets=DATASETS,
        rows=ROWS,
        on_demand=ON_DEMAND,
        prepare=prepare,
        shared_by=("dataset", "composition"),
        fit=lambda embed, adata, this: embed(adata.copy(), this["seed"]),
        evaluate=evaluate,
        measures=MEASURES,
        varied={"composition": COMPOSITIONS},
        keys=("dataset", "composition", "method", "seed"),
        order=("seed", "dataset", "composition", "method"),
        by=("dataset", "composition"),
        title="{0}, {1}",
    )
