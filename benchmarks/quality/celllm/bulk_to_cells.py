"""From the responses of bulk cell lines to single cells of lines that were left out: are the lines ranked right?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from benchmarks.quality.data import load, load_all, resource
from benchmarks.quality.page import markdown, mean_sd
from benchmarks.quality.runs import Run
from benchmarks.quality.table import Table
from sc_ssl.data import library_sizes, log_expression, to_csr

from .drug_lines import ours
from .screen import Predict, Screen, drug_mean, ridge

BULK, CELLS = "celllines_ccle_gdsc", "celllines_mixology"
#: files that are read beside the data sets
NEEDS = (f"{BULK}.h5ad", f"{CELLS}.h5ad", "mixology_lines_ln_ic50_gdsc.csv", "drug_smiles_170.csv")
#: the five lines as the bulk data set names them; the last is not in it
LINES = {"HCC827": "HCC827", "H1975": "NCI-H1975", "A549": "A549", "H2228": "NCI-H2228", "H838": "NCI-H838"}
#: whose target is mutated in HCC827 (exon 19) and, with T790M against all but the third generation, in H1975
EGFR_INHIBITORS = ("Afatinib", "AZD3759", "Erlotinib", "Gefitinib", "Lapatinib", "Osimertinib", "Sapitinib")
MEASURES = ("hcc827_first", "hcc827_margin", "egfr_spearman", "all_drugs_spearman")
MIN_LINES = 4


def single_cells(predict: Predict) -> Callable[[Screen, int], pd.DataFrame]:
    """Predictions for z-scored single cells, averaged over the cells of a line."""

    def lines(screen: Screen, seed: int) -> pd.DataFrame:
        z_ng, line_n = z_scored_cells(screen.x_ng.columns)
        predicted = predict(_with(screen.showing(~left_out(screen)[:, None]), z_ng), seed)[-len(z_ng) :]
        return pd.DataFrame(predicted, columns=screen.smiles_m.index).groupby(np.asarray(line_n)).mean()

    return lines


def bulk(predict: Predict) -> Callable[[Screen, int], pd.DataFrame]:
    """Predictions for the lines' own bulk expression: what is lost without the way to single cells."""

    def lines(screen: Screen, seed: int) -> pd.DataFrame:
        hidden_n = left_out(screen)
        predicted = predict(screen.showing(~hidden_n[:, None]), seed)[hidden_n]
        return pd.DataFrame(predicted, line_names()[hidden_n], screen.smiles_m.index)

    return lines


ROWS: dict[str, Callable[[Screen, int], pd.DataFrame]] = {
    "DrugResponse on cells": single_cells(ours()),
    "ridge on cells": single_cells(ridge),
    "DrugResponse on bulk": bulk(ours()),
    "ridge on bulk": bulk(ridge),
    "drug mean on bulk": bulk(drug_mean),
}


class RankedLines(Table):
    """Ranks of lines, and the predictions for one drug."""

    def lines(self, runs: pd.DataFrame) -> list[str]:
        """Both tables."""
        by_row = runs.groupby("method", sort=False)
        gefitinib = by_row[[f"gefitinib_{line}" for line in LINES]].mean().set_axis(list(LINES), axis=1)
        gefitinib.loc["measured"] = measured(Screen.read(BULK))["Gefitinib"]
        return [
            *markdown(by_row[[*MEASURES, "seconds"]].agg(mean_sd), "row"),
            "\nln IC50 of gefitinib (µM), as predicted and as measured:\n",
            *markdown(gefitinib, "row"),
        ]


def benchmark() -> RankedLines:
    """The second table of ``--task drug_sc``."""
    return RankedLines(
        name="celllm_bulk_to_cells",
        command="celllm --task drug_sc",
        datasets=(CELLS,),
        rows=ROWS,
        needs=NEEDS,
        prepare=shared_screen,
        shared_by=("dataset",),
        evaluate=score_lines,
        measures=MEASURES,
    )


def shared_screen(name: str) -> Screen:
    """The bulk screen, on the genes that single cells of this data set measured too."""
    screen = Screen.read(BULK)
    shared = screen.x_ng.columns.intersection(load(name).var_names, sort=False)
    return replace(screen, x_ng=screen.x_ng[shared])


def score_lines(predicted: pd.DataFrame, screen: Screen, this: Run) -> dict[str, float]:
    """Scores of the ranks, and what is predicted for gefitinib."""
    gefitinib = {f"gefitinib_{line}": predicted["Gefitinib"].get(line, np.nan) for line in LINES}
    return {name: float(value) for name, value in (score(predicted, measured(screen)) | gefitinib).items()}


def line_names() -> np.ndarray:
    """Of each bulk profile, the single-cell data set's name of its line where it is one of the five, else its own."""
    ours_of = {theirs: name for name, theirs in LINES.items()}
    return load_all(BULK).obs["name"].astype(str).map(lambda name: ours_of.get(name, name)).to_numpy()


def left_out(screen: Screen) -> np.ndarray:
    """Which bulk lines are among the five, (n,)."""
    return np.isin(line_names(), list(LINES))


def measured(screen: Screen) -> pd.DataFrame:
    """Responses of the lines: of the bulk data set, and for the line that it lacks of the table beside it."""
    hidden_n = left_out(screen)
    found = pd.DataFrame(screen.y_nm[hidden_n].to_numpy(), line_names()[hidden_n], screen.smiles_m.index)
    beside = pd.read_csv(resource("mixology_lines_ln_ic50_gdsc.csv")).groupby("drug")[list(LINES)].mean().T
    return found.combine_first(beside.reindex(columns=found.columns)).loc[list(LINES)]


def z_scored_cells(genes: pd.Index) -> tuple[pd.DataFrame, pd.Series]:
    """Single cells' log-expression of these genes, z-scored within their batch; and the line of each cell."""
    adata = load(CELLS)
    counts = to_csr(adata.X)
    size_n = library_sizes(adata, counts)
    logged = pd.DataFrame(
        log_expression(counts, size_n, float(np.median(size_n)))[:, adata.var_names.get_indexer(genes)].toarray(),
        adata.obs_names,
        genes,
    )
    by_batch = logged.groupby(adata.obs["batch"].astype(str).to_numpy())
    sd = by_batch.transform("std")
    return ((logged - by_batch.transform("mean")) / sd.where(sd > 1e-6, 1)).clip(-10, 10), adata.obs["cell_type"]


def score(predicted: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
    """How often HCC827 is the most sensitive to an EGFR inhibitor, by how much, and rank correlations over lines.

    The margin is to the next line, in standard deviations over lines of the prediction. Rank correlations are means over
    drugs with four measured lines, 0 where a prediction does not differ between lines.
    """
    drugs = [name for name in EGFR_INHIBITORS if name in predicted]
    sd = predicted[drugs].std().replace(0, np.inf)
    margin = (predicted[drugs].drop(index="HCC827").min() - predicted.loc["HCC827", drugs]) / sd
    correlation = {name: _spearman(predicted[name], truth[name].dropna()) for name in predicted}
    rho = pd.Series(correlation).dropna()
    return {
        "hcc827_first": float((margin > 0).mean()),
        "hcc827_margin": float(margin.mean()),
        "egfr_spearman": float(rho[rho.index.intersection(drugs)].mean()),
        "all_drugs_spearman": float(rho.mean()),
    }


def _spearman(predicted: pd.Series, truth: pd.Series) -> float:
    lines = truth.index.intersection(predicted.index)
    if len(lines) < MIN_LINES:
        return np.nan
    if predicted[lines].nunique() == 1:
        return 0.0
    return float(spearmanr(predicted[lines], truth[lines]).statistic)


def _with(screen: Screen, x_ng: pd.DataFrame) -> Screen:
    """The screen with further lines of which no response is known."""
    y_nm = pd.DataFrame(np.nan, x_ng.index, screen.y_nm.columns)
    return replace(screen, x_ng=pd.concat([screen.x_ng, x_ng]), y_nm=pd.concat([screen.y_nm, y_nm.astype(np.float32)]))
