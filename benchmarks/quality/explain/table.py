"""``python -m benchmarks.quality explain``: genes of explanations beside differential expression, PCA loadings and random genes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scanpy as sc
import torch
from anndata import AnnData
from matplotlib.figure import Figure
from scipy import sparse
from scipy.stats import spearmanr
from sklearn.neighbors import NearestNeighbors

from benchmarks.quality.cells import draw_cells
from benchmarks.quality.data import load
from benchmarks.quality.figures import DPI
from benchmarks.quality.runs import Run
from benchmarks.quality.table import Table
from sc_ssl import models, tl
from sc_ssl.data import Cells, gene_loadings, read_counts, variable_genes
from sc_ssl.models import SSLModel

from .markers import MARKERS

DATASETS = ("pbmc_kang_muscat", "pancreas_baron_mouse", "pbmc68k_reduced")
METHODS = ("masksc", "mae", "contrastive_sc")
MAX_CELLS, MIN_GROUP = 2_000, 20
#: genes that are deleted; the area is the mean of the shares of cells that stay
N_DELETED = (5, 10, 20, 50, 100)
N_NEIGHBORS, N_DELETED_CELLS, N_TOP_GENES, N_COMPONENTS = 15, 100, 2_000, 50
#: planted programmes and planted batch genes: how many, of how many genes, and by what they are multiplied
N_PROGRAMS, N_PLANTED, FOLD = 3, 25, 4.0
N_MARKERS = 50
RANKINGS = ("explain", "zero", "de", "pca", "random")
MEASURES = tuple(f"stay_{name}" for name in RANKINGS) + (
    "planted_explain",
    "planted_pca",
    "planted_de",
    "batch_explain",
    "batch_de",
    "markers_explain",
    "markers_de",
    "stability",
)


@dataclass(frozen=True)
class Prepared:
    """Real cells, and the same cells with planted programmes (columns ``program_<p>`` and ``batch_planted`` of ``obs``)."""

    cells: AnnData
    planted: AnnData
    genes_of: Mapping[str, list[str]]


def prepare(name: str, seed: int) -> Prepared:
    """At most 2,000 cells of types with 20 cells; programmes in a random third of the cells each, a batch in half."""
    adata = load(name)
    adata = adata[draw_cells(adata.n_obs, 0, MAX_CELLS)].copy()
    of_type = adata.obs["cell_type"].astype(str)
    adata = adata[of_type.map(of_type.value_counts()).to_numpy() >= MIN_GROUP]
    obs = pd.DataFrame({"cell_type": adata.obs["cell_type"].astype(str)}, adata.obs_names)
    cells = AnnData(sparse.csr_matrix(adata.X), obs=obs, var=adata.var[[]])
    rng = np.random.default_rng(seed)
    return Prepared(cells, *plant(cells, rng))


def plant(cells: AnnData, rng: np.random.Generator) -> tuple[AnnData, dict[str, list[str]]]:
    """Counts of a programme's genes rise in some cells: Poisson counts of (fold − 1) times the gene's mean are added."""
    planted, counts = cells.copy(), cells.X.toarray()
    mean_g = counts.mean(axis=0)
    expressed = rng.permutation(np.flatnonzero(mean_g > np.quantile(mean_g, 0.5)))
    genes_of = {}
    for p, name in enumerate([*(f"program_{p}" for p in range(N_PROGRAMS)), "batch_planted"]):
        genes = expressed[p * N_PLANTED : (p + 1) * N_PLANTED]
        inside = rng.random(cells.n_obs) < (0.5 if name == "batch_planted" else 1 / 3)
        added = rng.poisson((FOLD - 1) * np.maximum(mean_g[genes], 0.2), (int(inside.sum()), len(genes)))
        counts[np.ix_(inside, genes)] += added
        planted.obs[name] = np.where(inside, "in", "out")
        genes_of[name] = list(cells.var_names[genes])
    planted.X = sparse.csr_matrix(counts)
    return planted, genes_of


def train(method: str, cells: AnnData, seed: int) -> SSLModel:
    """A model of this method with its defaults, on the most variable genes."""
    genes = variable_genes(read_counts(cells), N_TOP_GENES)
    own = cells[:, genes].copy()
    model_class = models.METHODS[method]
    model_class.setup_anndata(own)
    torch.manual_seed(seed)
    model = model_class(own)
    model.train(enable_progress_bar=False, accelerator="cpu")
    return model


def explained(
    model: SSLModel, cells: AnnData, groupby: str, seed: int, baseline: str = "rest"
) -> dict[str, pd.DataFrame]:
    """The genes of each group that it expresses more, by falling contribution."""
    options = {"groupby": groupby, "baseline": baseline, "random_state": seed}
    copy = tl.explain(cells, model, **options, key_added="explained", copy=True)
    table = copy.uns["explained"]["genes"]
    return dict(list(table[table["logfoldchanges"] > 0].groupby("group", observed=True)))


def rankings(model: SSLModel, cells: AnnData, groupby: str, seed: int) -> dict[str, dict[str, list[str]]]:
    """Genes of each group, the best first: group → ranking → names."""
    genes = pd.Index(model.var_names)
    found = {name: {"explain": list(of["names"])} for name, of in explained(model, cells, groupby, seed).items()}
    logged = cells[:, genes].copy()
    sc.pp.normalize_total(logged)
    sc.pp.log1p(logged)
    sc.tl.rank_genes_groups(logged, groupby, method="wilcoxon")
    z_nd, loading_gd = components(cells, genes)
    rng = np.random.default_rng(seed)
    for name in found:
        found[name]["de"] = list(sc.get.rank_genes_groups_df(logged, name)["names"])
        inside = (cells.obs[groupby] == name).to_numpy()
        direction = z_nd[inside].mean(axis=0) - z_nd[~inside].mean(axis=0)
        found[name]["pca"] = list(genes[np.argsort(-(loading_gd @ direction))])
        found[name]["random"] = list(rng.permutation(genes))
    return found


def components(cells: AnnData, genes: pd.Index) -> tuple[np.ndarray, np.ndarray]:
    """50 principal components of z-scores, and their loadings."""
    read = Cells.from_anndata(cells, list(genes))
    loading_gd = gene_loadings(read, n_comps=N_COMPONENTS)
    log_ng = np.log1p(
        read.rows(np.arange(read.n_cells)).toarray() * (np.median(read.library_size) / read.library_size)[:, None]
    )
    z_ng = np.clip((log_ng - log_ng.mean(axis=0)) / np.maximum(log_ng.std(axis=0), 1e-6), -10, 10)
    return z_ng @ loading_gd, loading_gd


def stay(model: SSLModel, cells: AnnData, group: str, genes: Sequence[str], seed: int) -> float:
    """Mean over numbers of deleted genes of the share of the group's cells whose neighbours are mostly of the group."""
    inside = np.flatnonzero(cells.obs["cell_type"] == group)
    some = np.random.default_rng(seed).choice(inside, min(N_DELETED_CELLS, len(inside)), replace=False)
    own_n = (cells.obs["cell_type"] == group).to_numpy()
    search = NearestNeighbors(n_neighbors=N_NEIGHBORS + 1).fit(model.get_latent_representation(cells))
    shares = []
    for k in N_DELETED:
        changed = cells[some].copy()
        matrix = changed.X.tolil()
        matrix[:, cells.var_names.get_indexer(genes[:k])] = 0
        changed.X = matrix.tocsr()
        near = search.kneighbors(model.get_latent_representation(changed))[1]
        # a cell's place before the deletion is no neighbour of it
        is_other = near != some[:, None]
        shares.append(np.mean((own_n[near] * is_other).sum(axis=1) / is_other.sum(axis=1) > 0.5))
    return float(np.mean(shares))


def recall(found: Sequence[str], wanted: Sequence[str], n: int) -> float:
    """Share of the wanted genes among the first n."""
    return len(set(map(str.upper, found[:n])) & set(map(str.upper, wanted))) / len(wanted)


def fit(method: str, prepared: Prepared, this: Run) -> dict[str, float]:
    """All measures of a method's model on a data set."""
    seed, cells = this["seed"], prepared.cells
    model = train(method, cells, seed)
    ranked = rankings(model, cells, "cell_type", seed)
    for name, of in explained(model, cells, "cell_type", seed, "zero").items():
        ranked[name]["zero"] = list(of["names"])
    scores = {
        f"stay_{name}": np.mean([stay(model, cells, group, genes[name], seed) for group, genes in ranked.items()])
        for name in RANKINGS
    }
    return (
        scores
        | markers(ranked, model, this["dataset"])
        | planted(method, prepared, seed)
        | stability(method, model, cells, seed)
    )


def markers(ranked: Mapping[str, Any], model: SSLModel, dataset: str) -> dict[str, float]:
    """Recall of the published markers that are among the model's genes, in the first 50; mean over types."""
    names = {gene.upper() for gene in model.var_names}
    wanted = {group: [gene for gene in genes if gene in names] for group, genes in MARKERS.get(dataset, {}).items()}
    wanted = {group: genes for group, genes in wanted.items() if genes and group in ranked}
    return {
        f"markers_{name}": np.mean([recall(ranked[g][name], genes, N_MARKERS) for g, genes in wanted.items()])
        if wanted
        else np.nan
        for name in ("explain", "de")
    }


def planted(method: str, prepared: Prepared, seed: int) -> dict[str, float]:
    """Recall of planted programmes at their size, and of the genes of a planted batch."""
    model, found = train(method, prepared.planted, seed), {}
    known = set(model.var_names)
    for key, genes in prepared.genes_of.items():
        there = [gene for gene in genes if gene in known]
        ranked = rankings(model, prepared.planted, key, seed)["in"]
        found[key] = (
            {name: recall(ranked[name], there, len(there)) for name in ("explain", "pca", "de")} if there else {}
        )
    programs = [of for key, of in found.items() if key != "batch_planted" and of]
    return {f"planted_{name}": np.mean([of[name] for of in programs]) for name in ("explain", "pca", "de")} | {
        f"batch_{name}": found["batch_planted"].get(name, np.nan) for name in ("explain", "de")
    }


def stability(method: str, model: SSLModel, cells: AnnData, seed: int) -> dict[str, float]:
    """Spearman's correlation of the contributions by this model and by one of another seed; mean over types."""
    both = [
        tl.explain(cells, m, groupby="cell_type", key_added="explained", copy=True).varm["explained"].dropna()
        for m in (model, train(method, cells, seed + 100))
    ]
    return {"stability": float(np.mean([spearmanr(both[0][g], both[1][g]).statistic for g in both[0]]))}


class Explain(Table):
    """A table whose picture is that of the deletion."""

    def draw(self, runs: pd.DataFrame, path: Path) -> None:
        """Bars a ranking for each method: means over data sets and seeds."""
        mean = runs.groupby("method")[[f"stay_{name}" for name in RANKINGS]].mean()
        figure = Figure(figsize=(6.5, 3.2), layout="constrained")
        axes, width = figure.subplots(), 0.8 / len(RANKINGS)
        for i, name in enumerate(RANKINGS):
            axes.bar(np.arange(len(mean)) + i * width, mean[f"stay_{name}"], width, label=name, color=f"C{i}")
        axes.set_xticks(np.arange(len(mean)) + 0.4 - width / 2, mean.index)
        axes.set_ylabel("cells that stay (lower is better)")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(title="genes deleted by", frameon=False, bbox_to_anchor=(1, 1), loc="upper left")
        figure.savefig(path, dpi=DPI)


def benchmark() -> Table:
    """What the command line runs."""
    return Explain(
        name="explain",
        command="explain",
        datasets=DATASETS,
        rows={name: name for name in METHODS},
        prepare=prepare,
        fit=fit,
        measures=MEASURES,
    )
