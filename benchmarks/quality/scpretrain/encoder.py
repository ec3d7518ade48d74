"""The encoder that comes with the package: trained, scored on data sets that it has not seen, and written with a card."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from benchmarks.quality.data import load_all, resource
from benchmarks.quality.embeddings import QUIET
from benchmarks.quality.page import COMMAND, mean_sd, provenance
from benchmarks.quality.richter import neighbours
from benchmarks.quality.runs import Run
from benchmarks.quality.table import Benchmark, Table
from sc_ssl.data import evenly_spread
from sc_ssl.metrics import pca_space
from sc_ssl.models import ScPretrain
from sc_ssl.models.scpretrain.pretrained import gene_names, load_renamed, ship
from sc_ssl.train import seeded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from sc_ssl.models import SSLModel

#: what it is trained on → the licence of the repository that carries it; labels are not read
SOURCES = {
    "celllines_mixology": "MIT",
    "ipsc_cm": "MIT",
    "pancreas_baron_hs_mm_cider": "MIT",
    "pbmc68k_reduced": "BSD-3-Clause",
    "pbmc_cite_5k10k_subset": "BSD-3-Clause",
    "pbmc_zheng_facs": "BSD-2-Clause",
    "pc9_erlotinib_day11_reps": "Apache-2.0",
    "pollen": "MIT",
}
#: counts of named genes that are left out: a package of another licence than ours carries them, or none is stated
LEFT_OUT = {
    "bonemarrow_matsushita_mouse": "GPL-3",
    "brain_zeisel_mouse_subset": "GPL-2+",
    "gut_mca_mouse": "GPL-3+",
    "intestine_grun_mouse": "GPL-3",
    "pancreas_baron_mouse": "none stated",
    "pbmc_3tech_symphony": "GPL-3+",
    "pbmc_donorA_mudan": "GPL-3",
    "pbmc_kang_harmony_ctrlstim": "GPL-3",
    "pbmc_kang_muscat": "GPL-3",
}
#: tested: labelled, with at least half of the encoder's genes
DATASETS = (
    "pollen",
    "ipsc_cm",
    "celllines_mixology",
    "pbmc_zheng_facs",
    "pancreas_baron_hs_mm_cider",
    "pancreas_baron_mouse",
    "gut_mca_mouse",
    "bonemarrow_matsushita_mouse",
)
#: sources that share cells or donors with a tested one, and are left out with it
RELATED = {"pbmc_zheng_facs": ("pbmc68k_reduced",), "pancreas_baron_mouse": ("pancreas_baron_hs_mm_cider",)}
#: the most variable genes, of those that five sources measured, so that few are missing elsewhere
N_GENES, MIN_DATASETS = 4096, 5
#: how far the variances of its axes are brought to each other, and cells of each source from which they are taken. Of 0.5, 0.75 and 1
#: this keeps most of the neighbours that cells of left-out data have in their own principal components; no label is read
EQUALISED, N_CELLS = 0.75, 300
SEED = 0
ORTHOLOGS, ENSEMBL = "orthologs_human_mouse_one2one.csv", "ensembl2symbol_gencode44.csv.gz"
ROWS = ("encoder", "untrained encoder", "PCA-50")


@dataclass(frozen=True, kw_only=True)
class ShippedEncoder(Benchmark):
    """The table, and with ``ship`` the encoder of all sources in this folder, with its card."""

    ship: Path | None = None

    def run(self, datasets: Sequence[str], n_seeds: int, out: Path, methods: Sequence[str] | None = None) -> None:
        """Do the runs that are missing in ``out/encoder.csv`` and write ``encoder.md``; with ``ship`` also the encoder."""
        scored(out).run(datasets, n_seeds, out, methods)
        if self.ship is not None:
            folder = self.ship / "scpretrain"
            shutil.copytree(_equalised(out, tuple(SOURCES)), folder, dirs_exist_ok=True)
            scores = "\n".join(table(pd.read_csv(out / "encoder.csv")))
            (folder / "README.md").write_text(card(folder, scores))


def benchmark(*, ship: Path | None = None) -> ShippedEncoder:
    """What the command line runs."""
    return ShippedEncoder(datasets=DATASETS, rows=dict.fromkeys(ROWS), ship=ship)


class NeighbourTable(Table):
    """Macro F1, a row a data set."""

    def lines(self, runs: pd.DataFrame) -> list[str]:
        """One table."""
        return table(runs)


def scored(out: Path) -> NeighbourTable:
    """Types by neighbours in each row's embedding; encoders are kept in the folder."""

    def fit(row: None, adata: AnnData, this: Run) -> dict[str, float]:
        return neighbours.by_neighbours(lambda cells, _: _embedding(this, cells, out))(adata, this["seed"])

    return NeighbourTable(
        name="encoder",
        command="encoder",
        datasets=DATASETS,
        rows=dict.fromkeys(ROWS),
        prepare=neighbours.cells,
        fit=fit,
        evaluate=lambda score, adata, this: {"cells": adata.n_obs} | score,
    )


def _embedding(this: dict[str, object], adata: AnnData, out: Path) -> np.ndarray:
    """The cells embedded as a row of the table does; encoders are kept."""
    if this["method"] == "PCA-50":
        return pca_space(adata.X)
    name = str(this["dataset"])
    sources = tuple(source for source in SOURCES if source not in (name, *RELATED.get(name, ())))
    folder = _equalised(out, sources) if this["method"] == "encoder" else _kept(out, sources, trained=False)
    z_nd = _latent(load_renamed(folder, adata.var_names), adata)
    return z_nd - z_nd.mean(axis=0)


def _equalised(out: Path, sources: tuple[str, ...]) -> Path:
    """Where the trained encoder of these sources is, with its axes equalised."""
    trained = _kept(out, sources)
    folder = trained.with_name(f"equalised-{trained.name}")
    if (folder / "genes.csv").exists():
        return folder
    latent = []
    for source in sources:
        adata = load_all(source)
        cells = adata[evenly_spread(adata.n_obs, N_CELLS)]
        model = load_renamed(trained, cells.var_names, species="human")
        if np.isin(model.var_names, cells.var_names).mean() >= 0.5:
            latent.append(_latent(model, cells))
    names = pd.read_csv(trained / "genes.csv", keep_default_na=False)
    model = load_renamed(trained, names["human_symbol"], species="human")
    equalise(model.module.encoder, latent)
    ship(model, folder, names)
    return folder


def _latent(model: SSLModel, adata: AnnData) -> np.ndarray:
    return model.get_latent_representation(AnnData(adata.X, var=adata.var[[]]))


@torch.no_grad()
def equalise(encoder: nn.Linear, latent: Sequence[np.ndarray]) -> None:
    """Turn a linear encoder's output to the principal axes of these latents and bring their variances nearer to each other.

    An axis of standard deviation s, within data sets, is divided by s to the power of 0.75; all are then scaled to a
    mean variance of 1. The few axes that separate the clusters of the training data would otherwise outweigh the rest
    in the distances between other cells.
    """
    z_md = np.concatenate([z - z.mean(axis=0) for z in latent]).astype(np.float64)
    variance_d, axes_dd = np.linalg.eigh(z_md.T @ z_md / len(z_md))
    sd_d = np.sqrt(np.maximum(variance_d, 1e-6 * variance_d[-1]))
    turn_dd = (axes_dd / sd_d**EQUALISED).T
    turn_dd /= np.sqrt(np.mean(sd_d ** (2 - 2 * EQUALISED)))
    mean_d = np.mean([z.mean(axis=0) for z in latent], axis=0)
    turn = torch.as_tensor(turn_dd, dtype=torch.float32)
    encoder.weight.copy_(turn @ encoder.weight)
    encoder.bias.copy_(turn @ (encoder.bias - torch.as_tensor(mean_d, dtype=torch.float32)))


def _kept(out: Path, sources: tuple[str, ...], *, trained: bool = True) -> Path:
    """Where the encoder of these sources is; it is trained when it is not there yet."""
    left_out = "-".join(source for source in SOURCES if source not in sources) or "nothing"
    name = f"without-{left_out}" if trained else f"untrained-{left_out}"
    folder = out / "embeddings_encoder" / name
    if not (folder / "genes.csv").exists():
        train(folder, sources, max_epochs=None if trained else 0)
    return folder


def train(folder: Path, sources: tuple[str, ...], max_epochs: int | None = None) -> None:
    """Train on these sources and write the encoder; 0 epochs give one with random weights."""
    orthologs, ensembl = (resource(file) for file in (ORTHOLOGS, ENSEMBL))
    with seeded(SEED):
        model = ScPretrain.from_adatas(
            {name: load_all(name) for name in sources},
            species=dict.fromkeys(sources, "human"),  # also the mouse cells of one: under human names
            n_top_genes=N_GENES,
            min_datasets=MIN_DATASETS,
        )
        if max_epochs == 0:
            model.is_trained_ = True
        else:
            model.train(max_epochs, accelerator="cpu", **QUIET)
    identifiers = pd.read_csv(ensembl, names=["human_ensembl", "human_symbol"])
    ship(model, folder, gene_names(model.var_names, pd.read_csv(orthologs), identifiers))


def table(runs: pd.DataFrame) -> list[str]:
    """Macro F1 of neighbours, a row a data set."""
    wide = runs.groupby(["dataset", "method"])["macro_f1"].agg(mean_sd).unstack().loc[runs["dataset"].unique()]
    means = runs.groupby("method", sort=False)["macro_f1"].mean()
    shown = [method for method in ROWS if method in wide]
    n_cells = runs.groupby("dataset")["cells"].max()
    lines = [f"| data set | cells | {' | '.join(shown)} |", "|---" * (2 + len(shown)) + "|"]
    lines += [f"| {name} | {n_cells[name]} | {' | '.join(row[shown])} |" for name, row in wide.iterrows()]
    return [*lines, f"| mean | | {' | '.join(f'{means[method]:.3f}' for method in shown)} |"]


CARD = """# ScPretrain encoder, human and mouse

Written by `{command} encoder --ship`. {provenance}. Seed {seed}, {epochs} epochs.

A linear map of log1p counts per 10,000 of {n_named} genes to 200 dimensions, {mega:.1f} MB in half precision, trained
by `ScPretrain` with its defaults to classify the clusters of each source. No label was read. Its output is then turned
to the principal axes of the sources' cells, an axis of standard deviation s divided by s to the power of {equalised}, so that
the clusters of the sources do not outweigh all else; the heads of the training are of no more use.
`sc_ssl.tl.embed(adata, method="scpretrain", pretrained=True)` embeds cells with it, and `sc_ssl.models.pretrained` loads it.

Genes are the {n_genes} most variable of those that at least {min_datasets} sources measured. Their names: {counts}.

## Data

| source | cells | licence of the repository that carries it |
|---|---|---|
{used}

Left out, since the package that carries them has a licence other than permissive or states none: {unused}.
The only mouse cells are those of pancreas_baron_hs_mm_cider, under human names.

## How good

Macro F1 of 15 cosine neighbours, five folds, at most 3,000 cells. The encoder was trained again for each data set, without
it and without what shares cells or donors with it; PCA-50 saw the data set itself, without labels. Embeddings are centred
on the data set.

{scores}

## Limits

- Where PCA of your own data does better in the table, use it: the encoder is for a common space without training.
- Blood, pancreas, and cancer and stem cell lines are what it knows. Other tissues are embedded by what they share with these.
- Nothing corrects for platforms or species: the same type from two of them may lie apart.
- Mouse genes are those with a one-to-one ortholog. Ensembl ids are human only.
- Half of its genes must be there. Not for clinical use.
"""


def card(folder: Path, scores: str) -> str:
    """The model card, in Markdown."""
    names = pd.read_csv(folder / "genes.csv", keep_default_na=False)
    config = json.loads((folder / "model.json").read_text())
    mega = sum(path.stat().st_size for path in folder.iterdir() if path.name != "README.md") / 1e6
    used = "\n".join(f"| {name} | {load_all(name).n_obs} | {licence} |" for name, licence in SOURCES.items())
    unused = ", ".join(f"{name} ({licence})" for name, licence in LEFT_OUT.items())
    counts = ", ".join(f"{(names[column] != '').sum()} {column.replace('_', ' ')}s" for column in names)
    return CARD.format(
        command=COMMAND,
        provenance=provenance(),
        seed=SEED,
        epochs=len(config["history"]["train_loss"]),
        n_named=len(names),
        mega=mega,
        equalised=EQUALISED,
        n_genes=N_GENES,
        min_datasets=MIN_DATASETS,
        counts=counts,
        used=used,
        unused=unused,
        scores=scores,
    )
