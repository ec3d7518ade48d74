"""``celllm --task annotation``: CellLM under a `CellClassifier`, and how much of it is trained with the labels."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from sc_ssl.metrics import pca_space
from sc_ssl.models import CellClassifier, CellLM
from sc_ssl.train import seeded

from ._bars import draw_bars
from ._data import load
from ._rows import QUIET, Embed, built, pca_standard, scvi
from ._runs import Runs, every, markdown, page
from .richter._cells import labelled, types, variable_genes, z_scores
from .richter.neighbours import N_NEIGHBORS

DATASETS = ("pbmc_zheng_facs", "pancreas_baron_mouse")
KEYS = ("dataset", "method", "seed")
MEASURES = ("macro_f1", "accuracy")
MAX_CELLS = 1100
TEST_SHARE = 0.2
#: of fine-tuning; a frozen encoder's head trains longer
MAX_EPOCHS = 10
#: what is known of the paper's three numbers
PUBLISHED = pd.DataFrame(
    {
        "task": [
            "cell types: data set and kind of F1 not said, probably Zheng 68k",
            "drug sensitivity of single cells, 5 % of them labelled: mean of two data sets not to be had with valid labels",
            "ln IC50 of cell lines: split not said",
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
    with built(CellLM, cells(name, seed), seed) as model:
        model.train(**QUIET)
        return model


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
                with built(CellLM, adata, seed, n_start_components=0) as model:
                    model.is_trained_ = True
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


def run(names: list[str], n_seeds: int, out: Path, methods: list[str] | None = None) -> None:
    """Do the runs that are missing in ``out/celllm_annotation.csv`` and write its page and picture."""
    runs = Runs(out / "celllm_annotation.csv", KEYS)
    for this in runs.missing(every(names, n_seeds, ROWS, methods)):
        adata = cells(this["dataset"], this["seed"])
        order = np.random.default_rng(this["seed"]).permutation(adata.n_obs)
        test, train = np.split(order, [round(TEST_SHARE * len(order))])
        start = time.process_time()
        predicted, truth = ROWS[this["method"]](adata, train, this["seed"])[test], types(adata)[test]
        scores = {"macro_f1": f1_score(truth, predicted, average="macro"), "accuracy": np.mean(truth == predicted)}
        runs.add(this | scores | {"processor_seconds": round(time.process_time() - start, 1)})
    table = runs.table()
    published = ["\n### What the paper prints\n", *markdown(PUBLISHED, "task")]
    (out / "celllm_annotation.md").write_text(
        page(table, "celllm --task annotation", [*MEASURES, "processor_seconds"], below=published)
    )
    draw_bars(table, MEASURES, out / "celllm_annotation.png")
