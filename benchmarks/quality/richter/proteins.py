"""Proteins from RNA."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline

from benchmarks.quality.cells import TEST_SIZE, draw_cells, variable_genes, z_scores
from benchmarks.quality.data import load_all
from benchmarks.quality.embeddings import QUIET
from sc_ssl import tl
from sc_ssl.metrics import pca_space, pearson
from sc_ssl.pp import select_genes
from sc_ssl.train import seeded

from .task import Row, Task, task

MAX_CELLS = 3000
#: standardised proteins and counts of them, in ``obsm``
NORMALIZED, COUNTS = "protein_norm", "protein_counts"
#: as printed: the NeurIPS data, 134 proteins; of totalVI the middle of the range that is given
PUBLISHED = {
    "mae": {"per_feature": 0.793, "per_cell": 0.865, "flattened": 0.882},
    "from scratch": {"per_feature": 0.792, "per_cell": 0.863, "flattened": 0.881},
    "linear": {"per_feature": 0.692, "per_cell": 0.857, "flattened": 0.836},
    "totalvi": {"per_feature": 0.809, "per_cell": 0.891, "flattened": 0.851},
}


def with_proteins(name: str, seed: int) -> AnnData:
    """At most 3,000 cells; ``obs["test"]`` marks the fifth whose proteins are to be predicted."""
    adata = load_all(name)
    adata = adata[draw_cells(adata.n_obs, seed, MAX_CELLS)].copy()
    key = next((key for key in (NORMALIZED, COUNTS) if key in adata.obsm), None)
    if key is None:
        raise KeyError(f"{name} has no obsm[{NORMALIZED!r}] or obsm[{COUNTS!r}], found {', '.join(adata.obsm)}.")
    values = proteins_of(adata, key)
    adata.obsm["truth"] = np.log1p(values) if key == COUNTS else values
    adata.obs["test"] = np.random.default_rng(seed).permutation(adata.n_obs) < int(TEST_SIZE * adata.n_obs)
    adata.obsm["protein"] = adata.obsm["truth"].mask(adata.obs["test"])
    return adata


def proteins_of(adata: AnnData, key: str) -> pd.DataFrame:
    """Cells × proteins."""
    return pd.DataFrame(adata.obsm[key], index=adata.obs_names).add_prefix("protein_").astype(np.float32)


def regressor(encoder: str | None, **options: Any) -> Row:
    """A network on an encoder that has seen the RNA of all cells, or from scratch."""

    def score(adata: AnnData, seed: int) -> dict[str, float]:
        predicted = tl.predict_modality(
            adata, encoder=encoder, random_state=seed, train_kwargs=QUIET, copy=True, **options
        )
        return correlate(adata, predicted.obsm["protein_predicted"].to_numpy())

    return score


def ridge_on(features: Callable[[AnnData], np.ndarray]) -> Row:
    """Ridge regression, its penalty by cross-validation within the training cells; the seed is in the split."""

    def score(adata: AnnData, seed: int) -> dict[str, float]:
        x, train = features(adata), ~adata.obs["test"].to_numpy()
        ridge = make_pipeline(*z_scores(), RidgeCV(np.logspace(0, 5, 11), alpha_per_target=True))
        ridge.fit(x[train], adata.obsm["truth"].to_numpy()[train])
        return correlate(adata, ridge.predict(x))

    return score


def totalvi(adata: AnnData, seed: int) -> dict[str, float]:
    """TotalVI on counts of both; the test cells are a batch without proteins, and are decoded as the other batch."""
    import scvi

    if COUNTS not in adata.obsm:
        raise KeyError(f"totalVI needs counts of proteins in obsm[{COUNTS!r}], found {', '.join(adata.obsm)}.")
    test = adata.obs["test"].to_numpy()
    genes = select_genes(adata, 2000)
    cells = AnnData(sparse.csr_matrix(adata.X), obs=adata.obs[[]], var=adata.var[[]])[:, genes].copy()
    cells.obsm["protein"] = proteins_of(adata, COUNTS).mask(adata.obs["test"], 0)
    cells.obs["batch"] = np.where(test, "test", "train")
    with seeded(seed), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the proteins of a batch are missing is what is wanted
        scvi.settings.seed = seed
        scvi.model.TOTALVI.setup_anndata(cells, protein_expression_obsm_key="protein", batch_key="batch")
        model = scvi.model.TOTALVI(cells)
        model.train(**QUIET)
        options = {"transform_batch": "train", "n_samples": 25, "include_protein_background": True}
        _, predicted = model.get_normalized_expression(**options)
    return correlate(adata, np.log1p(predicted.to_numpy()))


def correlate(adata: AnnData, predicted: np.ndarray) -> dict[str, float]:
    """Pearson correlations over the test cells."""
    test = adata.obs["test"].to_numpy()
    return pearson(adata.obsm["truth"].to_numpy()[test], predicted[test])


def benchmark() -> Task:
    """What the command line runs."""
    return task(
        "protein",
        datasets=("cbmc_cite_top2000",),
        prepare=with_proteins,
        rows={
            "mae": regressor("mae"),
            "byol": regressor("byol"),
            "barlow_twins": regressor("barlow_twins"),
            "mae, frozen": regressor("mae", freeze_encoder=True),
            "from scratch": regressor(None),
            "linear": ridge_on(lambda adata: variable_genes(adata)[0]),
            "ridge on pca": ridge_on(lambda adata: pca_space(adata.X)),
        },
        on_demand={"totalvi": totalvi},
        measures=("per_feature", "per_cell", "flattened", "seconds"),
        published=PUBLISHED,
        note="scored on 134 proteins of bone marrow",
    )
