"""The rows of the annotation table: each gives probabilities of types from some labelled cells of a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.quality.cells import variable_genes
from benchmarks.quality.classifiers import predict_proba
from benchmarks.quality.embeddings import QUIET, scvi
from sc_ssl.data import describe_names
from sc_ssl.metrics import pca_space
from sc_ssl.models import CellClassifier, ScPretrain
from sc_ssl.pp import map_orthologs
from sc_ssl.train import seeded

#: genes of pretraining, those that vary most over its data sets, and cells of each of them, evenly spread
N_GENES, MAX_CELLS = 2000, 500
#: seed of pretraining: one encoder serves all seeds of a data set, which draw splits, heads and classifiers
SEED = 0
#: some data sets hold under 1,000 genes that their authors selected
MIN_COVERAGE = 0.05
#: probabilities of types, and their names
Predicted = tuple[np.ndarray, list[str]]


@dataclass
class Target:
    """A data set that pretraining never saw, with what is computed once for all its rows.

    Attributes
    ----------
    adata
        Raw counts and ``obs["cell_type"]``, genes under their own names.
    others
        The data sets for pretraining.
    orthologs
        Table of orthologs.
    """

    adata: AnnData
    others: Mapping[str, AnnData]
    orthologs: Path
    _made: dict[Any, Any] = field(default_factory=dict)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """The result of ``make``, computed the first time."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    @property
    def labels(self) -> np.ndarray:
        """Types, (n,)."""
        return self.adata.obs["cell_type"].astype(str).to_numpy()

    def encoder(self, *, trained: bool = True, with_target: bool = False, **options: Any) -> ScPretrain:
        """A model of the other data sets, with ``with_target`` also of the target's cells; never of labels."""
        key = "encoder", trained, with_target, str(options)
        return self.once(key, lambda: self._pretrain(trained, with_target, options))

    def _pretrain(self, trained: bool, with_target: bool, options: dict[str, Any]) -> ScPretrain:
        studies = {name: adata[:: -(-adata.n_obs // MAX_CELLS)].copy() for name, adata in self.others.items()}
        studies |= {"target": self.adata} if with_target else {}
        with seeded(SEED):
            model = ScPretrain.from_adatas(studies, orthologs=self.orthologs, n_top_genes=N_GENES, **options)
            if trained:
                model.train(**QUIET)
        return model

    def named_as(self, model: ScPretrain) -> AnnData:
        """The cells with the model's names of genes."""
        if describe_names(model.var_names).species == describe_names(self.adata.var_names).species:
            return self.adata
        return self.once("mapped", lambda: map_orthologs(self.adata, self.orthologs))

    def embedding(self, *, with_target: bool = False) -> np.ndarray:
        """All cells in the pretrained latent space."""
        return self.once(("latent", with_target), lambda: self._embed(self.encoder(with_target=with_target)))

    def _embed(self, model: ScPretrain) -> np.ndarray:
        query = ScPretrain.load_query(model, self.named_as(model), min_coverage=MIN_COVERAGE)
        return query.get_latent_representation()

    def log_counts(self, *, variable: bool) -> np.ndarray:
        """log1p of counts per 10,000, of the 2,000 most variable genes or of all."""
        return self.once(("log", variable), lambda: self._log_counts(variable))

    def _log_counts(self, variable: bool) -> np.ndarray:
        return variable_genes(self.adata, n_genes=2000 if variable else None, target_sum=1e4)[0]

    def components(self) -> np.ndarray:
        """50 principal components of all cells, over their overall standard deviation."""
        return self.once("pca", lambda: _unit_scale(pca_space(self.adata.X)))

    def scvi(self) -> np.ndarray:
        """All cells in the latent space of scVI, fitted on them alone."""
        return self.once("scvi", lambda: scvi(self.adata, SEED))


def _unit_scale(space_nd: np.ndarray) -> np.ndarray:
    return space_nd / space_nd.std()


def shelf(
    space: Callable[[Target], np.ndarray], name: str, *, standardize: bool = True
) -> Callable[[Target, np.ndarray, int], Predicted]:
    """An off-the-shelf classifier on a space of all cells."""

    def predict(target: Target, train: np.ndarray, seed: int) -> Predicted:
        x = space(target)
        labels = target.labels[train]
        return predict_proba(name, x[train], labels, x, seed, standardize=standardize)

    return predict


def network(pretrained: Callable[[Target], ScPretrain], **train_options: Any) -> Callable[..., Predicted]:
    """The encoder with a head, fine-tuned."""

    def predict(target: Target, train: np.ndarray, seed: int) -> Predicted:
        model = pretrained(target)
        cells = target.named_as(model).copy()
        cells.obs["benchmark"] = np.where(np.isin(np.arange(cells.n_obs), train), target.labels, "Unknown")
        with seeded(seed):
            classifier = CellClassifier.from_pretrained(model, cells, labels_key="benchmark", min_coverage=MIN_COVERAGE)
            classifier.train(**QUIET, **train_options)
            proba = classifier.predict(soft=True)
        return proba.to_numpy(), list(proba.columns)

    return predict


def celltypist_style(target: Target, train: np.ndarray, seed: int) -> Predicted:
    """One L2-regularised logistic regression a type on all scaled genes, as CellTypist; its probabilities normalised."""
    x = target.log_counts(variable=False)
    model = OneVsRestClassifier(LogisticRegression(C=1.0, max_iter=100, random_state=seed))
    fitted = make_pipeline(StandardScaler(), model).fit(x[train], target.labels[train])
    proba = fitted.predict_proba(x)
    return proba / proba.sum(axis=1, keepdims=True), list(fitted.classes_)


def untrained(target: Target) -> ScPretrain:
    """The same network with random weights, and the same normalisation."""
    return target.encoder(trained=False)


def published(target: Target) -> ScPretrain:
    """The paper's settings, from beginning to end."""
    return target.encoder(replicate="paper")


def with_target(target: Target) -> np.ndarray:
    """As PCA, which is fitted on all cells of the target: its unlabelled cells are pretrained on too."""
    return target.embedding(with_target=True)


SCRATCH = {"lr_encoder": 1e-3}
ROWS: dict[str, Callable[[Target, np.ndarray, int], Predicted]] = {
    "no pretraining": network(untrained, **SCRATCH),
    "ScPretrain fine-tuned": network(Target.encoder),
    "ScPretrain + logistic": shelf(Target.embedding, "logistic"),
    "ScPretrain + forest": shelf(Target.embedding, "forest"),
    "ScPretrain + SVM": shelf(Target.embedding, "svm"),
    "ScPretrain with target fine-tuned": network(partial(Target.encoder, with_target=True)),
    "ScPretrain with target + logistic": shelf(with_target, "logistic"),
    "ScPretrain with target + forest": shelf(with_target, "forest"),
    "PCA-50 + logistic": shelf(Target.components, "logistic", standardize=False),
    "PCA-50 + forest": shelf(Target.components, "forest", standardize=False),
    "PCA-50 + SVM": shelf(Target.components, "svm", standardize=False),
    "HVG + logistic": shelf(lambda target: target.log_counts(variable=True), "logistic"),
    "CellTypist-style": celltypist_style,
}
#: rows that take minutes a data set and hours in all, run only when they are named
ON_DEMAND: dict[str, Callable[[Target, np.ndarray, int], Predicted]] = {
    "scPretrain (published)": network(published, **SCRATCH),
    "scVI + logistic": shelf(Target.scvi, "logistic"),
    "scVI + forest": shelf(Target.scvi, "forest"),
}
