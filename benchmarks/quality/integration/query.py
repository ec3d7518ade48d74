"""``python -m benchmarks.quality map_query``: types of a batch that was left out, and which of them the reference lacks."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scvi
from anndata import AnnData
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.quality.embeddings import QUIET
from benchmarks.quality.runs import Run
from benchmarks.quality.table import Table
from sc_ssl import tl
from sc_ssl.pp import select_genes

from . import batches, peers
from .batches import BATCH, N_MAJOR
from .mapping import Split, projected
from .table import N_TOP_GENES

DATASETS = (
    "pbmc_kang_muscat",
    "pbmc_3tech_symphony",
    "celllines_mixology",
    "pancreas_baron_mouse",
    "pancreas_baron_hs_mm_cider",
)
TYPE = "cell_type"
#: fewer cells of a type that the reference lacks are not scored
MIN_NOVEL = 5
#: epochs of scVI and scANVI on the reference, and of the surgery on the query
SCANVI_EPOCHS, SURGERY_EPOCHS = (100, 20), 50


class Found(NamedTuple):
    """Types (n,) of the query, and where a row has them novelty (n,) and prediction sets (n, k) of types ``names``."""

    types: np.ndarray
    novelty: np.ndarray
    sets: np.ndarray | None = None
    names: np.ndarray | None = None


Annotate = Callable[[Split, int], Found]


def prepare(name: str) -> list[Split]:
    """A split for each batch: the i-th lacks the i-th most frequent type in its reference, as `shift` takes it out."""
    adata = batches.prepare(name, "even")
    major = adata.obs[TYPE].value_counts(sort=True).index[:N_MAJOR]
    found = []
    for i, batch in enumerate(adata.obs[BATCH].cat.categories):
        inside = (adata.obs[BATCH] == batch).to_numpy()
        parts = (adata[~inside & (adata.obs[TYPE] != major[i % len(major)]).to_numpy()].copy(), adata[inside].copy())
        for part in parts:
            part.obs[BATCH] = part.obs[BATCH].cat.remove_unused_categories()
        found.append(Split(*parts))
    return found


def mapped(method: str) -> Annotate:
    """``tl.map_query`` with a model of the reference."""

    def annotate(split: Split, seed: int) -> Found:
        reference, query = split.reference.copy(), AnnData(split.query.X, split.query.obs[[BATCH]], split.query.var)
        key = BATCH if reference.obs[BATCH].nunique() > 1 else None
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model"
            options = {"random_state": seed, "save_model": model, "train_kwargs": QUIET}
            tl.embed(reference, method, batch_key=key, **options)
            tl.map_query(query, reference, model, labels_key=TYPE, reference_batch_key=BATCH)
        found = query.obsm[f"{TYPE}_set"], query.uns["map_query"]["classes"]
        return Found(query.obs[TYPE].to_numpy(str), query.obs["novelty"].to_numpy(), *found)

    return annotate


def logistic(split: Split, seed: int) -> Found:
    """A logistic regression on components of the reference; unsure cells are novel. The same for every seed."""
    known_nd, query_nd = projected(split, seed)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced"))
    classifier.fit(known_nd, split.reference.obs[TYPE].to_numpy(str))
    proba_nk = classifier.predict_proba(query_nd)
    return Found(classifier.classes_[proba_nk.argmax(axis=1)], 1 - proba_nk.max(axis=1))


def peer(name: str) -> Annotate:
    """A method of others, in the environment of the peers."""

    def annotate(split: Split, seed: int) -> Found:
        genes = select_genes(split.reference, N_TOP_GENES, batch_key=BATCH)
        known_ng, query_ng = (per_10_000(part, genes) for part in split)
        types, batch = (split.reference.obs[key].to_numpy(str) for key in (TYPE, BATCH))
        return Found(**peers.run(name, seed, log=known_ng, query=query_ng, types=types, batch=batch))

    return annotate


def per_10_000(adata: AnnData, genes: pd.Index) -> np.ndarray:
    """Log-expression of genes at a library size of 10,000 counts, as CellTypist takes it."""
    library_size_n = np.maximum(np.asarray(adata.X.sum(axis=1)), 1)
    return np.log1p(adata[:, genes].X.toarray() / library_size_n * 1e4)


def scanvi(split: Split, seed: int) -> Found:
    """ScANVI on the reference, and scArches' surgery for the query; unsure cells are novel."""
    genes = select_genes(split.reference, N_TOP_GENES, batch_key=BATCH)
    reference, query = (part[:, genes].copy() for part in split)
    query.obs[TYPE] = "Unknown"
    scvi.settings.seed = seed
    quiet = {"enable_progress_bar": False, "accelerator": "cpu"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scvi.model.SCVI.setup_anndata(reference, batch_key=BATCH)
        base = scvi.model.SCVI(
            reference, use_layer_norm="both", use_batch_norm="none", encode_covariates=True, n_layers=2
        )
        base.train(SCANVI_EPOCHS[0], **quiet)
        model = scvi.model.SCANVI.from_scvi_model(base, "Unknown", labels_key=TYPE)
        model.train(SCANVI_EPOCHS[1], **quiet)
        scvi.model.SCANVI.prepare_query_anndata(query, model)
        surgery = scvi.model.SCANVI.load_query_data(query, model)
        surgery.train(SURGERY_EPOCHS, plan_kwargs={"weight_decay": 0.0}, **quiet)
        proba = surgery.predict(soft=True)
    return Found(proba.columns.to_numpy(str)[proba.to_numpy().argmax(axis=1)], 1 - proba.to_numpy().max(axis=1))


ROWS: dict[str, Annotate] = {
    "logistic regression on PCA": logistic,
    "CellTypist": peer("celltypist"),
    "symphonypy": peer("symphony"),
    "masksc, map_query": mapped("masksc"),
    "mae, map_query": mapped("mae"),
}
ON_DEMAND: dict[str, Annotate] = {"scANVI, surgery": scanvi}


def fit(row: Annotate, splits: list[Split], this: Run) -> list[Found]:
    """Each batch left out in turn."""
    return [row(split, this["seed"]) for split in splits]


def evaluate(found: list[Found], splits: list[Split], this: Run) -> Mapping[str, Any]:
    """Means over the batches: F1 and sets of cells whose type the reference has, and the area under the curve of novelty."""
    scores = pd.DataFrame([evaluate_one(*pair) for pair in zip(found, splits, strict=True)])
    return {name: float(value) for name, value in scores.mean().items()}


def evaluate_one(found: Found, split: Split) -> dict[str, float]:
    """The scores of one batch."""
    true_n = split.query.obs[TYPE].to_numpy(str)
    known_n = np.isin(true_n, split.reference.obs[TYPE].to_numpy(str))
    options = {"labels": np.unique(true_n[known_n]), "average": "macro", "zero_division": 0}
    scores = {"f1": f1_score(true_n[known_n], found.types[known_n], **options)}
    n_novel = int((~known_n).sum())
    scored = n_novel >= MIN_NOVEL and known_n.any()
    scores["novelty AUROC"] = roc_auc_score(~known_n, found.novelty) if scored else np.nan
    sets = {"coverage": np.nan, "types in a set": np.nan}
    if found.sets is not None:
        column_n = pd.Index(found.names).get_indexer(true_n[known_n])
        own_n = found.sets[known_n][np.arange(len(column_n)), column_n]
        sets = {"coverage": own_n.mean(), "types in a set": found.sets[known_n].sum(axis=1).mean()}
    return scores | sets


def benchmark() -> Table:
    """What the command line runs."""
    return Table(
        name="map_query",
        command="map_query",
        datasets=DATASETS,
        rows=ROWS,
        on_demand=ON_DEMAND,
        prepare=prepare,
        shared_by=("dataset",),
        fit=fit,
        evaluate=evaluate,
        measures=("f1", "novelty AUROC", "coverage", "types in a set"),
    )
