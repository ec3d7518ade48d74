"""Cell types of held-out cells, by labels of the others: supervised, pretrained and fine-tuned, zero-shot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from anndata import AnnData
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from benchmarks.quality.cells import labelled, split, types, variable_genes, z_scores
from benchmarks.quality.data import load
from benchmarks.quality.embeddings import model_of, trained_scvi
from sc_ssl.models import SSLModel

from .encoders import SCRATCH, embed, predict_fine_tuned
from .task import Row, Task, task

MAX_CELLS = 2000
N_NEIGHBORS = 15
METHODS = ("mae", "byol", "barlow_twins", "contrastive_sc", "masksc")
#: as printed: 164 types; no linear row
PUBLISHED = {
    "supervised": {"macro_f1": 0.821, "micro_f1": 0.901},
    "mae, fine-tuned": {"macro_f1": 0.816, "micro_f1": 0.897},
    "mae, neighbours": {"macro_f1": 0.649, "micro_f1": 0.811},
    "byol, fine-tuned": {"macro_f1": 0.813, "micro_f1": 0.895},
    "byol, neighbours": {"macro_f1": 0.123, "micro_f1": 0.294},
    "barlow_twins, fine-tuned": {"macro_f1": 0.807, "micro_f1": 0.891},
    "barlow_twins, neighbours": {"macro_f1": 0.217, "micro_f1": 0.347},
    "random, neighbours": {"macro_f1": 0.021, "micro_f1": 0.121},
}


@dataclass
class Study:
    """Cells for training and for the test, the same for all rows of a seed, with encoders that are trained once."""

    train: AnnData
    test: AnnData
    _encoders: dict[tuple[str, bool], SSLModel] = field(default_factory=dict)

    def encoder(self, method: str, seed: int, *, trained: bool = True) -> SSLModel:
        """A model of the training cells."""
        key = method, trained
        if key not in self._encoders:
            self._encoders[key] = model_of(method, self.train, seed, trained=trained)
        return self._encoders[key]

    def score(self, predicted: np.ndarray) -> dict[str, float]:
        """F1 over types, and over cells (accuracy)."""
        truth = types(self.test)
        return {f"{average}_f1": f1_score(truth, predicted, average=average) for average in ("macro", "micro")}


def study(name: str, seed: int) -> Study:
    """At most 2,000 cells, a fifth of each type for the test."""
    return Study(*split(labelled(load(name), seed, MAX_CELLS), seed))


def fine_tuned(method: str, *, trained: bool = True, **train_options: Any) -> Row:
    """The encoder with a head, trained on the types."""

    def row(study: Study, seed: int) -> dict[str, float]:
        model = study.encoder(method, seed, trained=trained)
        return study.score(predict_fine_tuned(model, study.train, study.test, "cell_type", seed, **train_options))

    return row


def by_neighbours(method: str, *, trained: bool = True) -> Row:
    """The types of the training cells that are nearest in the embedding, which has seen no label."""

    def row(study: Study, seed: int) -> dict[str, float]:
        model = study.encoder(method, seed, trained=trained)
        return study.score(_neighbours(embed(model, study.train), study.train, embed(model, study.test)))

    return row


def scvi(study: Study, seed: int) -> dict[str, float]:
    """Neighbours in the latent space of scVI."""
    model = trained_scvi(study.train, seed)
    test = study.test[:, model.adata.var_names].copy()
    train_nd, test_nd = model.get_latent_representation(), model.get_latent_representation(test)
    return study.score(_neighbours(train_nd, study.train, test_nd))


def on_genes(*steps: Callable[[], BaseEstimator]) -> Row:
    """An off-the-shelf classifier on z-scores of the 2,000 most variable genes."""

    def row(study: Study, seed: int) -> dict[str, float]:
        train_ng, test_ng = variable_genes(study.train, study.test)
        classifier = make_pipeline(*z_scores(), *(step() for step in steps))
        return study.score(classifier.fit(train_ng, types(study.train)).predict(test_ng))

    return row


def _neighbours(train_nd: np.ndarray, train: AnnData, test_nd: np.ndarray) -> np.ndarray:
    return KNeighborsClassifier(N_NEIGHBORS, metric="cosine").fit(train_nd, types(train)).predict(test_nd)


ROWS = {"supervised": fine_tuned("mae", trained=False, **SCRATCH)}
for method in METHODS:
    ROWS |= {f"{method}, fine-tuned": fine_tuned(method), f"{method}, neighbours": by_neighbours(method)}
ROWS |= {
    "random, neighbours": by_neighbours("mae", trained=False),
    "pca, logistic": on_genes(lambda: PCA(50, random_state=0), lambda: LogisticRegression(max_iter=2000)),
    "hvg, logistic": on_genes(lambda: LogisticRegression(C=0.01, max_iter=1000)),
    "scvi, neighbours": scvi,
}


def benchmark() -> Task:
    """What the command line runs."""
    return task(
        "annotation",
        datasets=(
            "pbmc_zheng_facs",
            "pancreas_baron_mouse",
            "pbmc_3tech_symphony",
            "pbmc4k",
            "worm_neuron",
            "cbmc_cite_top2000",
            "celllines_mixology",
            "pbmc_kang_muscat",
        ),
        prepare=study,
        rows=ROWS,
        measures=("macro_f1", "micro_f1"),
        published=PUBLISHED,
        note="with labels of all training cells, scored on 164 types",
        base="supervised",
    )
