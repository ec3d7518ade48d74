"""``celllm --task drug_sc``: sensitive against resistant cells, and from bulk cell lines to single cells.

The first is the paper's protocol: a classifier on 80 % or on 5 % of the cells of one data set, stratified draws. The
data sets of the paper could not be had with valid labels. The second is harder and honest: nothing is trained on the
lines that are ranked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from sklearn.model_selection import StratifiedShuffleSplit

from benchmarks.quality import data
from benchmarks.quality.classifiers import predict_proba
from benchmarks.quality.data import load_all
from benchmarks.quality.embeddings import QUIET
from benchmarks.quality.runs import Run
from benchmarks.quality.table import Benchmark, Table
from sc_ssl.data import describe_matrix, library_sizes, log_expression, to_csr
from sc_ssl.models import CellClassifier, CellLM
from sc_ssl.train import seeded

from . import bulk_to_cells

DATASETS = ("a375_plx4720",)
MEASURES = ("f1_resistant", "macro_f1", "auroc", "auprc")
RESISTANT = "resistant"
#: column of ``obs``, and its value for resistant cells; another one has tables of its own
RESPONSE = ("drug_response", RESISTANT)
#: of all cells are labelled, and draws of them a seed
TRAIN_RATES, N_DRAWS = (0.8, 0.05), 10
N_COMPONENTS = 20
#: as far as is known the mean of F1 over two other data sets, with 5 % of the labels
PUBLISHED = {"CellLM (paper)": 0.889, "scBERT (paper)": 0.806}
#: of fine-tuning, as for annotation
MAX_EPOCHS = 10

#: cells, labelled ones, and a seed → the probability that each cell is resistant, (n,)
Predict = Callable[["Cells", np.ndarray, int], np.ndarray]


class Cells:
    """A data set with what is made once of it for all draws.

    Z-scores are shifted so that each gene's least value is 0, which is where no transcript was found: what is above is
    expressed, and z-scoring undoes the shift.
    """

    def __init__(self, adata: AnnData, key: str = "drug_response", resistant: str = RESISTANT) -> None:
        if key not in adata.obs:
            raise ValueError(
                f"obs[{key!r}] with the cells' response is not there, obs has {', '.join(adata.obs)}; name it with --response "
                "KEY RESISTANT."
            )
        self.adata = adata[adata.obs[key].notna()].copy()
        self.resistant_n = (self.adata.obs[key].astype(str) == resistant).to_numpy()
        if not 1 < self.resistant_n.sum() < self.adata.n_obs - 1:
            values = ", ".join(map(repr, self.adata.obs[key].unique()[:5]))
            raise ValueError(
                f"obs[{key!r}] should be {resistant!r} in two cells at least and something else in two, found {values}."
            )
        if describe_matrix(adata.X) == "scaled":
            self.adata.X = np.asarray(self.adata.X - self.adata.X.min(axis=0), dtype=np.float32)
        self._made: dict[Any, Any] = {}

    def genes(self) -> np.ndarray:
        """Z-scores of log-expression over all cells, (n, g)."""
        x_ng = to_csr(self.adata.X)
        if describe_matrix(x_ng) == "counts":
            size_n = library_sizes(self.adata, x_ng)
            x_ng = log_expression(x_ng, size_n, float(np.median(size_n)))
        x_ng = x_ng.toarray()
        return (x_ng - x_ng.mean(axis=0)) / np.maximum(x_ng.std(axis=0), 1e-6)

    def components(self) -> np.ndarray:
        """Principal components of all cells."""
        u, s, _ = np.linalg.svd(self.genes(), full_matrices=False)
        return (u * s)[:, :N_COMPONENTS] / s[0] * len(u) ** 0.5

    def celllm(self, seed: int, *, trained: bool = True) -> CellLM:
        """CellLM on all cells, without labels."""
        if (seed, trained) not in self._made:
            with seeded(seed):
                cells = self.adata.copy()
                CellLM.setup_anndata(cells, input=describe_matrix(cells.X))
                model = CellLM(cells)
                model.train(None if trained else 1, **QUIET, plan_kwargs=None if trained else {"lr": 0.0})
            self._made[seed, trained] = model
        return self._made[seed, trained]


def shelf(space: Callable[[Cells, int], np.ndarray], name: str, *, standardize: bool = True) -> Predict:
    """An off-the-shelf classifier."""

    def predict(cells: Cells, train: np.ndarray, seed: int) -> np.ndarray:
        x, labels = space(cells, seed), np.where(cells.resistant_n, RESISTANT, "sensitive")
        proba_nk, names = predict_proba(name, x[train], labels[train], x, seed, standardize=standardize)
        return proba_nk[:, names.index(RESISTANT)]

    return predict


def fine_tuned(cells: Cells, train: np.ndarray, seed: int) -> np.ndarray:
    """CellLM with a head."""
    adata = cells.adata.copy()
    labels = np.where(cells.resistant_n, RESISTANT, "sensitive").astype(object)
    adata.obs["label"] = np.where(np.isin(np.arange(adata.n_obs), train), labels, "Unknown")
    with seeded(seed):
        classifier = CellClassifier.from_pretrained(cells.celllm(seed), adata, labels_key="label")
        classifier.train(MAX_EPOCHS, **QUIET)
        return classifier.predict(soft=True)[RESISTANT].to_numpy()


def chance(cells: Cells, train: np.ndarray, seed: int) -> np.ndarray:
    """The share of resistant cells among those labelled."""
    return np.full(len(cells.resistant_n), cells.resistant_n[train].mean())


ROWS: dict[str, Predict] = {
    "CellLM fine-tuned": fine_tuned,
    "CellLM + logistic": shelf(lambda cells, seed: cells.celllm(seed).get_latent_representation(), "logistic"),
    "untrained CellLM + logistic": shelf(
        lambda cells, seed: cells.celllm(seed, trained=False).get_latent_representation(), "logistic"
    ),
    "genes + logistic": shelf(lambda cells, seed: cells.genes(), "logistic", standardize=False),
    "genes + forest": shelf(lambda cells, seed: cells.genes(), "forest", standardize=False),
    "PCA + logistic": shelf(lambda cells, seed: cells.components(), "logistic", standardize=False),
    "PCA + kNN": shelf(lambda cells, seed: cells.components(), "knn", standardize=False),
    "share of the labelled": chance,
}


@dataclass(frozen=True, kw_only=True)
class Sensitivity(Benchmark):
    """Two tables: labelled cells of one data set, and from bulk to cells; ``--methods`` names rows of either.

    Attributes
    ----------
    labelled
        The first table.
    response
        Column of ``obs`` with the cells' response, and its value for resistant ones.
    """

    labelled: Table
    response: tuple[str, str]

    def check(self, datasets: Sequence[str], methods: Sequence[str] | None) -> None:
        """An error unless the files, and a response in each data set, are there."""
        bulk = bulk_to_cells.benchmark()
        needs = bulk.needs if set(methods or bulk.rows) & set(bulk.rows) else ()
        data.check(datasets, needs=needs, counts=False)
        for name in datasets:
            Cells(load_all(name), *self.response)

    def run(self, datasets: Sequence[str], n_seeds: int, out: Path, methods: Sequence[str] | None = None) -> None:
        """Do the runs that are missing in both tables, and write their pages and pictures."""
        bulk = bulk_to_cells.benchmark()
        self.labelled.run(datasets, n_seeds, out, methods)
        bulk.run(bulk.datasets, n_seeds, out, methods)


def benchmark(response: tuple[str, str] = RESPONSE) -> Sensitivity:
    """What the command line runs; another response than the default has files of its own."""
    response = tuple(response)
    rows = ROWS | bulk_to_cells.ROWS
    return Sensitivity(datasets=DATASETS, rows=rows, labelled=labelled_table(response), response=response)


def labelled_table(response: tuple[str, str]) -> Table:
    """A classifier on 80 % or on 5 % of the cells."""
    name = "celllm_drug_sc" if response == RESPONSE else f"celllm_drug_sc_{'_'.join(response)}".replace("/", "_")
    claims = ", ".join(f"{method} {value:.3f}" for method, value in PUBLISHED.items())
    printed = f"\nAs published, F1 with 5 % of the labels, mean of two other data sets, of which class is not known: {claims}."
    return Table(
        name=name,
        command="celllm --task drug_sc",
        datasets=DATASETS,
        rows=ROWS,
        varied={"train_rate": TRAIN_RATES, "draw": range(N_DRAWS)},
        keys=("dataset", "train_rate", "method", "seed", "draw"),
        order=("dataset", "seed", "train_rate", "method", "draw"),
        prepare=lambda dataset: Cells(load_all(dataset), *response),
        shared_by=("dataset",),
        fit=lambda row, cells, this: row(cells, labelled_cells(cells, this), this["seed"]),
        evaluate=score_others,
        measures=MEASURES,
        by=("dataset", "train_rate"),
        title=f"{{1:.0%}} of the cells of {{0}} labelled, {N_DRAWS} draws a seed",
        figure_title="{:.0%} of the cells labelled",
        below=(printed,),
    )


def labelled_cells(cells: Cells, this: Run) -> np.ndarray:
    """Positions of the labelled cells of a run."""
    return draw_train(cells.resistant_n, this["train_rate"], this["seed"] * N_DRAWS + this["draw"])


def score_others(score_n: np.ndarray, cells: Cells, this: Run) -> dict[str, float]:
    """Scores of the cells that were not labelled."""
    test = np.setdiff1d(np.arange(len(score_n)), labelled_cells(cells, this))
    return score(cells.resistant_n[test], score_n[test])


def draw_train(resistant_n: np.ndarray, rate: float, seed: int) -> np.ndarray:
    """Positions of the labelled cells, stratified, at least one of each kind."""
    n_train = max(round(rate * len(resistant_n)), 2)
    splitter = StratifiedShuffleSplit(1, train_size=n_train, random_state=seed)
    train, _ = next(splitter.split(resistant_n, resistant_n))
    return np.sort(train)


def score(resistant_n: np.ndarray, score_n: np.ndarray) -> dict[str, float]:
    """F1 of the resistant cells and the mean of both classes', at a probability of one half; areas under the curves."""
    called_n = score_n > 0.5
    return {
        "f1_resistant": float(f1_score(resistant_n, called_n, zero_division=0)),
        "macro_f1": float(f1_score(resistant_n, called_n, average="macro", zero_division=0)),
        "auroc": float(roc_auc_score(resistant_n, score_n)),
        "auprc": float(average_precision_score(resistant_n, score_n)),
    }
