"""Cell types by neighbours in an embedding that has seen no label: zero-shot prediction."""

from __future__ import annotations

from typing import Any

import numpy as np
from anndata import AnnData
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from benchmarks.quality.cells import labelled, types, variable_genes, z_scores
from benchmarks.quality.data import load
from benchmarks.quality.embeddings import Embed, ours, pca_standard, scvi, untrained

from .encoders import MASKS, mask_options
from .task import Row, Task, task

MAX_CELLS = 3000
N_FOLDS, N_NEIGHBORS = 5, 15


def masked_by(mask: str) -> Embed:
    """The masked autoencoder with a mask of gene programmes, whose names are those of human genes."""

    def embed(adata: AnnData, seed: int) -> np.ndarray:
        return ours("mae", **mask_options(mask))(adata, seed)

    return embed


EMBEDDINGS: dict[str, Embed] = {
    **{method: ours(method) for method in ("mae", "byol", "barlow_twins", "contrastive_sc", "masksc")},
    "pca": pca_standard,
    # the network of Barlow Twins is that of BYOL
    **{f"random {method}": untrained(method) for method in ("mae", "byol", "contrastive_sc", "masksc")},
}
#: run only when they are named: options of the above, and what takes ten minutes a data set and more
ON_DEMAND: dict[str, Embed] = {
    "mae, nb": ours("mae", likelihood="nb"),
    "simsiam": ours("byol", target="online"),
    "vicreg": ours("vicreg"),
    **{f"mae, {mask}": masked_by(mask) for mask in MASKS},
    "scpretrain": ours("scpretrain"),
    "random scpretrain": untrained("scpretrain"),
    "scvi": scvi,
    "celllm": ours("celllm"),
    "random celllm": untrained("celllm"),
}
#: as printed: 164 types
PUBLISHED = {
    "mae": {"macro_f1": 0.649, "accuracy": 0.811},
    "byol": {"macro_f1": 0.123, "accuracy": 0.294},
    "barlow_twins": {"macro_f1": 0.217, "accuracy": 0.347},
    "pca": {"macro_f1": 0.065, "accuracy": 0.282},
    "random mae": {"macro_f1": 0.021, "accuracy": 0.121},
}


def cells(name: str, seed: int) -> AnnData:
    """At most 3,000 cells with types."""
    return labelled(load(name), seed, MAX_CELLS)


def by_neighbours(embed: Embed) -> Row:
    """Cosine neighbours in the embedding of all cells; cross-validated."""

    def score(adata: AnnData, seed: int) -> dict[str, float]:
        neighbours = KNeighborsClassifier(N_NEIGHBORS, metric="cosine")
        return classify(neighbours, embed(adata.copy(), seed), types(adata), seed)

    return score


def logistic(adata: AnnData, seed: int) -> dict[str, float]:
    """Logistic regression on the most variable genes, a supervised reference."""
    classifier = make_pipeline(*z_scores(), LogisticRegression(C=0.01, max_iter=1000))
    return classify(classifier, *variable_genes(adata), types(adata), seed)


def classify(classifier: Any, x: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, float]:
    """Macro F1 and accuracy over folds that are the same for every row of a seed."""
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed)
    predicted = cross_val_predict(classifier, x, labels, cv=folds)
    return {"macro_f1": f1_score(labels, predicted, average="macro"), "accuracy": float((labels == predicted).mean())}


#: all with types and counts
DATASETS = (
    "pbmc_zheng_facs",
    "pancreas_baron_mouse",
    "pbmc_3tech_symphony",
    "pbmc4k",
    "worm_neuron",
    "bonemarrow_matsushita_mouse",
    "brain_zeisel_mouse_subset",
    "cbmc_cite_top2000",
    "celllines_mixology",
    "gut_mca_mouse",
    "ipsc_cm",
    "pancreas_baron_hs_mm_cider",
    "pbmc68k_reduced",
    "pbmc_kang_muscat",
    "pollen",
)


def benchmark() -> Task:
    """What the command line runs."""
    return task(
        "knn",
        datasets=DATASETS,
        prepare=cells,
        rows={name: by_neighbours(row) for name, row in EMBEDDINGS.items()} | {"hvg, logistic (supervised)": logistic},
        on_demand={name: by_neighbours(row) for name, row in ON_DEMAND.items()},
        measures=("macro_f1", "accuracy", "seconds"),
        published=PUBLISHED,
        note="scored on 164 types",
        base="pca",
    )
