"""``python -m benchmarks.quality mapping``: cells of a batch that was not trained on, embedded among those that were."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import anndata
import numpy as np
from anndata import AnnData
from sklearn.decomposition import PCA
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier

from benchmarks.quality.embeddings import QUIET
from benchmarks.quality.runs import Run
from benchmarks.quality.table import Table
from sc_ssl import models, tl
from sc_ssl.metrics import batch_mixing

from . import batches
from .batches import BATCH
from .scores import N_VOTING
from .table import components, logged

DATASETS = ("pbmc_kang_muscat", "pbmc_3tech_symphony", "celllines_mixology", "pancreas_baron_mouse")


class Split(NamedTuple):
    """Cells that are trained on, and those of the batch that is mapped."""

    reference: AnnData
    query: AnnData


#: a split and a seed → embeddings of both
Mapper = Callable[[Split, int], tuple[np.ndarray, np.ndarray]]


def prepare(name: str) -> list[Split]:
    """One split for each batch; types that only the query has are left out of it."""
    adata = batches.prepare(name, "even")
    found = []
    for batch in adata.obs[BATCH].cat.categories:
        inside = (adata.obs[BATCH] == batch).to_numpy()
        known = inside & adata.obs["cell_type"].isin(adata.obs["cell_type"][~inside]).to_numpy()
        reference = adata[~inside].copy()
        reference.obs[BATCH] = reference.obs[BATCH].cat.remove_unused_categories()
        found.append(Split(reference, adata[known].copy()))
    return found


def mapped(method: str, *, named: bool) -> Mapper:
    """A model of the reference, which embeds the query without training; ``named`` tells the reference's batches apart."""

    def embed(split: Split, seed: int) -> tuple[np.ndarray, np.ndarray]:
        reference, query = split.reference.copy(), split.query.copy()
        several = named and reference.obs[BATCH].nunique() > 1
        options = {"random_state": seed, "key_added": "z", "train_kwargs": QUIET}
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model"
            tl.embed(reference, method, batch_key=BATCH if several else None, save_model=model, **options)
            query.obsm["z"] = models.load(model).get_latent_representation(query)
        return reference.obsm["z"], query.obsm["z"]

    return embed


def trained_on_all(method: str) -> Mapper:
    """The same method trained on reference and query, batches named: what mapping could reach."""

    def embed(split: Split, seed: int) -> tuple[np.ndarray, np.ndarray]:
        both = _joined(split)
        tl.embed(both, method, batch_key=BATCH, random_state=seed, key_added="z", train_kwargs=QUIET)
        n = split.reference.n_obs
        return both.obsm["z"][:n], both.obsm["z"][n:]

    return embed


def projected(split: Split, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Principal components of the reference, onto which the query is projected; the same for every seed."""
    cells = logged(_joined(split)).X.toarray()
    n = split.reference.n_obs
    mean_g, sd_g = cells[:n].mean(axis=0), np.maximum(cells[:n].std(axis=0), 1e-6)
    z_ng = np.clip((cells - mean_g) / sd_g, -10, 10)
    found = PCA(50, random_state=0).fit(z_ng[:n])
    return found.transform(z_ng[:n]), found.transform(z_ng[n:])


def pca_of_all(split: Split, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Principal components of both; the same for every seed."""
    z_nd, n = components(logged(_joined(split))), split.reference.n_obs
    return z_nd[:n], z_nd[n:]


def _joined(split: Split) -> AnnData:
    """Reference and query, in this order."""
    both = anndata.concat(split)
    both.obs[BATCH] = both.obs[BATCH].astype("category")
    return both


ROWS: dict[str, Mapper] = {
    "PCA of the reference, query projected": projected,
    "PCA of both": pca_of_all,
    "masksc, query mapped": mapped("masksc", named=True),
    "masksc without batches, query mapped": mapped("masksc", named=False),
    "masksc trained on both": trained_on_all("masksc"),
    "mae, query mapped": mapped("mae", named=False),
}


def fit(row: Mapper, splits: list[Split], this: Run) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each batch left out in turn."""
    return [row(split, this["seed"]) for split in splits]


def evaluate(found: list[tuple[np.ndarray, np.ndarray]], splits: list[Split], this: Run) -> Mapping[str, Any]:
    """Means over the batches: types of query cells by their nearest reference cells, and how far both are mixed."""
    f1s, mixes = [], []
    for (reference_nd, query_nd), split in zip(found, splits, strict=True):
        known_n, true_n = (part.obs["cell_type"].to_numpy() for part in split)
        voters = KNeighborsClassifier(N_VOTING, metric="cosine").fit(reference_nd, known_n)
        f1s.append(f1_score(true_n, voters.predict(query_nd), average="macro", zero_division=0))
        side_n = np.repeat(["reference", "query"], [len(known_n), len(true_n)])
        mixes.append(batch_mixing(np.vstack([reference_nd, query_nd]), side_n, np.concatenate([known_n, true_n])))
    return {"f1": float(np.mean(f1s)), "mix": float(np.nanmean(mixes))}


def benchmark() -> Table:
    """What the command line runs."""
    return Table(
        name="mapping",
        command="mapping",
        datasets=DATASETS,
        rows=ROWS,
        prepare=prepare,
        shared_by=("dataset",),
        fit=fit,
        evaluate=evaluate,
        measures=("f1", "mix"),
    )
