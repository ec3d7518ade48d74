"""``celllm --task annotation``: CellLM under a `CellClassifier`, and how much of it is trained with the labels."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from benchmarks.quality.cells import labelled, types, variable_genes, z_scores
from benchmarks.quality.data import load
from benchmarks.quality.embeddings import QUIET, Embed, model_of, pca_standard, scvi
from benchmarks.quality.page import markdown
from benchmarks.quality.richter.neighbours import N_NEIGHBORS
from benchmarks.quality.runs import Run
from benchmarks.quality.table import Table
from sc_ssl.metrics import pca_space
from sc_ssl.models import CellClassifier, CellLM
from sc_ssl.train import seeded

DATASETS = ("pbmc_zheng_facs", "pancreas_baron_mouse")
MEASURES = ("macro_f1", "accuracy")
MAX_CELLS = 1100
TEST_SHARE = 0.2
#: of fine-tuning; a frozen encoder's head trains longer
MAX_EPOCHS = 10
#: what is known of the paper's three numbers
PUBLISHED = pd.DataFrame(
    {
        "task": [
            "cell types: data set and kind of F1 not stated, probably Zheng 68k",
            "drug sensitivity of single cells, 5 % of them labelled: mean of two data sets not to be had with valid labels",
            "ln IC50 of cell lines: split not stated",
        ],
        "measure": ["F1", "F1", "Pearson × 100"],
        "CellLM": [71.8, 88.9, 93.4],
        "scBERT": [68.8, 80.6, 87.2],
    }
).set_index("task")

#: all cells, which of them are labelled, and a seed to the types of all
Predict = Callable[[AnnData, np.ndarray, int], np.ndarray]


@cache
def pretrained(name: str, seed: int) -> CellLM:
    """CellLM of the data set's cells, labels unseen."""
    return model_of("celllm", cells(name, seed), seed)


def cells(name: str, seed: int) -> AnnData:
    """At most 1,100 cells with types."""
    adata = labelled(load(name), seed, MAX_CELLS)
    adata.uns["name"] = name
    return adata


def celllm(*, trained: bool = True, head: dict[str, Any] | None = None, **options: Any) -> Predict:
    """The classifier on CellLM."""

    def predict(adata: AnnData, train: np.ndarray, seed: int) -> np.ndarray:
        labels = np.where(np.isin(np.arange(adata.n_obs), train), types(adata), "Unknown")
        target = AnnData(adata.X, obs=pd.DataFrame({"label": labels}, index=adata.obs_names), var=adata.var[[]])
        with seeded(seed):
            if trained:
                model = pretrained(adata.uns["name"], seed)
            else:
                model = model_of("celllm", adata, seed, trained=False, n_start_components=0)
            classifier = CellClassifier.from_pretrained(model, target, labels_key="label", **head or {})
            classifier.train(**QUIET, **options)
            return classifier.predict(unknown=None)

    return predict


def logistic(features: Callable[[AnnData], np.ndarray]) -> Predict:
    """Logistic regression on standardised features of all cells."""

    def predict(adata: AnnData, train: np.ndarray, seed: int) -> np.ndarray:
        x = features(adata)
        regression = LogisticRegression(C=0.01, max_iter=1000, class_weight="balanced")
        return make_pipeline(*z_scores(), regression).fit(x[train], types(adata)[train]).predict(x)

    return predict


def neighbours(embed: Embed) -> Predict:
    """Cosine neighbours in an embedding of all cells."""

    def predict(adata: AnnData, train: np.ndarray, seed: int) -> np.ndarray:
        x = embed(adata.copy(), seed)
        return KNeighborsClassifier(N_NEIGHBORS, metric="cosine").fit(x[train], types(adata)[train]).predict(x)

    return predict


TUNED: dict[str, Any] = {"max_epochs": MAX_EPOCHS}
#: the paper's head
SLOTS: dict[str, Any] = {"reads": "gene_slots", "n_hidden": (512, 128)}
ROWS: dict[str, Predict] = {
    "CellLM, frozen": celllm(freeze_encoder=True),
    "CellLM, last block": celllm(adapt="last", **TUNED),
    "CellLM, LoRA": celllm(adapt="lora", lr_encoder=1e-3, **TUNED),
    "CellLM, all": celllm(**TUNED),
    "CellLM, last block, gene slots": celllm(head=SLOTS, adapt="last", **TUNED),
    "random network, frozen": celllm(trained=False, freeze_encoder=True),
    "variable genes, logistic regression": logistic(lambda adata: variable_genes(adata)[0]),
    "PCA, 50 components, logistic regression": logistic(lambda adata: pca_space(adata.X)),
    "PCA, 50 components, neighbours": neighbours(pca_standard),
    "scVI, neighbours": neighbours(scvi),
}


def benchmark() -> Table:
    """What the command line runs."""
    return Table(
        name="celllm_annotation",
        command="celllm --task annotation",
        datasets=DATASETS,
        rows=ROWS,
        prepare=cells,
        fit=lambda row, adata, this: row(adata, divide(adata, this["seed"])[1], this["seed"]),
        evaluate=score,
        clocks=("processor_seconds",),
        measures=MEASURES,
        below=("\n### What the paper prints\n", *markdown(PUBLISHED, "task")),
    )


def divide(adata: AnnData, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the test cells and of the labelled ones."""
    order = np.random.default_rng(seed).permutation(adata.n_obs)
    test, train = np.split(order, [round(TEST_SHARE * len(order))])
    return test, train


def score(predicted: np.ndarray, adata: AnnData, this: Run) -> dict[str, float]:
    """Macro F1 and accuracy of the test cells."""
    test, _ = divide(adata, this["seed"])
    truth, predicted = types(adata)[test], predicted[test]
    return {"macro_f1": f1_score(truth, predicted, average="macro"), "accuracy": np.mean(truth == predicted)}
