"""Few labels: pretrained on other studies of the species, on the study itself, on both, or not at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from anndata import AnnData
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.quality.cells import draw_cells, types, variable_genes, z_scores
from benchmarks.quality.data import load, load_all
from benchmarks.quality.embeddings import QUIET, registered
from benchmarks.quality.scpretrain import studies
from benchmarks.quality.scpretrain.annotation import split
from sc_ssl.data import describe_names
from sc_ssl.models import MaskedAutoencoder, SSLModel
from sc_ssl.pp import join_studies
from sc_ssl.train import seeded

from .encoders import SCRATCH, predict_fine_tuned
from .task import Row, Task, task

#: of the study that is to be annotated and of each of the others; genes that vary most in some study
MAX_CELLS, MAX_CELLS_OTHERS, N_GENES = 1000, 500, 2000
#: studies with fewer genes are not pretrained on: all genes must have been measured in all studies
MIN_GENES = 5000
N_LABELS = (20, 50, 100)
MACRO_F1 = {n: f"macro_f1 with {n} labels" for n in N_LABELS}
#: types with fewer test cells do not count
MIN_SUPPORT = 10
TARGET = "target"
#: columns of `obs` that :func:`join_studies` writes
DATASET, LIBRARY_SIZE = "dataset", "sc_ssl_library_size"
#: as printed: 28 types of blood, fine-tuned on all training cells of that atlas
PUBLISHED = {"from scratch": {MACRO_F1[100]: 0.703}, "other studies": {MACRO_F1[100]: 0.747}}


@dataclass
class Study:
    """A labelled study joined with others of its species, over the genes that all of them measured.

    Attributes
    ----------
    target
        Raw counts and ``obs["cell_type"]``, all genes.
    joined
        Cells of all studies, in ``obs["dataset"]`` which, :data:`TARGET` being this one.
    """

    target: AnnData
    joined: AnnData
    _made: dict[tuple[str, int], SSLModel] = field(default_factory=dict)

    @property
    def cells(self) -> AnnData:
        """The target's cells with the joined genes."""
        cells = self.joined[self.joined.obs[DATASET] == TARGET].copy()
        cells.obs["cell_type"] = types(self.target)
        return cells

    def encoder(self, seen: str, seed: int) -> SSLModel:
        """A masked autoencoder that was trained on no study, on the others, on the target or on all of them.

        They start from the same weights, and in each of them a gene is z-scored within its study: no label is looked at.
        """
        if ("none", seed) not in self._made:
            self._made["none", seed] = self._untrained(seed)
        if (seen, seed) not in self._made:
            of_target = (self.joined.obs[DATASET] == TARGET).to_numpy()
            shown = {"others": ~of_target, "target": of_target, "all": np.ones_like(of_target)}[seen]
            model = MaskedAutoencoder.load_query(self._made["none", seed], self.joined[shown].copy())
            with seeded(seed):
                model.train(**QUIET)
            self._made[seen, seed] = model
        return self._made[seen, seed]

    def _untrained(self, seed: int) -> SSLModel:
        setup = {"library_size_key": LIBRARY_SIZE, "batch_key": DATASET}
        with seeded(seed), registered(MaskedAutoencoder, self.joined, **setup) as build:
            model = build()
            model.is_trained_ = True
        return model


def study(name: str, seed: int) -> Study:
    """At most 1,000 cells, and 500 of each other study; those that share cells or donors with this one are left out."""
    target = _drawn(load(name), seed, MAX_CELLS)
    species = describe_names(target.var_names).species
    others = {}
    for other in studies.others(name):
        adata = load_all(other)
        if adata.n_vars >= MIN_GENES and describe_names(adata.var_names).species == species:
            others[other] = _drawn(adata, seed, MAX_CELLS_OTHERS)
    joined = {TARGET: target} | others
    return Study(target, join_studies(joined, min_datasets=len(joined), n_top_genes=N_GENES))


def _drawn(adata: AnnData, seed: int, max_cells: int) -> AnnData:
    return adata[draw_cells(adata.n_obs, seed, max_cells)].copy()


def fine_tuned(seen: str, **train_options: Any) -> Row:
    """The encoder with a head, trained on few labels."""

    def row(study: Study, seed: int) -> dict[str, float]:
        model, cells = study.encoder(seen, seed), study.cells
        found = {}
        for n_labels in N_LABELS:
            train = split(types(study.target), n_labels, seed)
            cells.obs["known"] = np.where(np.isin(np.arange(cells.n_obs), train), types(study.target), "Unknown")
            predicted = predict_fine_tuned(model, cells, cells, "known", seed, **train_options)
            found[MACRO_F1[n_labels]] = supported_f1(types(study.target), predicted, train)
        return found

    return row


def own_latent(study: Study, seed: int) -> dict[str, float]:
    """Logistic regression on the embedding of the study's cells, which has seen them all."""
    return _logistic(
        StandardScaler().fit_transform(study.encoder("target", seed).get_latent_representation()), study, seed
    )


def components(study: Study, seed: int) -> dict[str, float]:
    """Logistic regression on principal components of all cells of the study."""
    (x_ng,) = variable_genes(study.target)
    return _logistic(make_pipeline(*z_scores(), PCA(50, random_state=seed)).fit_transform(x_ng), study, seed)


def _logistic(space_nd: np.ndarray, study: Study, seed: int) -> dict[str, float]:
    found, labels = {}, types(study.target)
    for n_labels in N_LABELS:
        train = split(labels, n_labels, seed)
        classifier = LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced")
        predicted = classifier.fit(space_nd[train], labels[train]).predict(space_nd)
        found[MACRO_F1[n_labels]] = supported_f1(labels, predicted, train)
    return found


def supported_f1(labels: np.ndarray, predicted: np.ndarray, train: np.ndarray) -> float:
    """Macro F1 over the types that at least ten of the other cells have."""
    test = np.setdiff1d(np.arange(len(labels)), train)
    names, n = np.unique(labels[test], return_counts=True)
    return f1_score(labels[test], predicted[test], labels=names[n >= MIN_SUPPORT], average="macro", zero_division=0)


def benchmark() -> Task:
    """What the command line runs."""
    return task(
        "transfer",
        datasets=studies.DATASETS,
        prepare=study,
        rows={
            "from scratch": fine_tuned("none", **SCRATCH),
            "other studies": fine_tuned("others"),
            "own cells": fine_tuned("target"),
            "own cells, logistic": own_latent,
            "own cells and other studies": fine_tuned("all"),
            "pca, logistic": components,
        },
        measures=tuple(MACRO_F1[n] for n in reversed(N_LABELS)),
        published=PUBLISHED,
        note="then fine-tuned on all training cells of an atlas of blood with 28 types, small ones counted",
        base="from scratch",
    )
