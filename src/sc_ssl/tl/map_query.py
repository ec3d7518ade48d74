"""Cells of new batches in the embedding of a reference, with types, prediction sets and novelty."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from sc_ssl import models
from sc_ssl._checks import check_inside
from sc_ssl._keys import query_keys
from sc_ssl._logging import logged_once
from sc_ssl._names import as_names
from sc_ssl.data import Counts, obs_categories, obs_column, warn_of_confounded
from sc_ssl.models import CellClassifier, SSLModel
from sc_ssl.train import seeded

from ._cells import INPUTS, find
from ._nearest import novelty, place
from ._query_space import Pair
from ._query_types import Predicted, Types, predict_types
from ._record import check_free, record, write

if TYPE_CHECKING:
    from ._record import Field

#: the record in ``uns``
RECORD = "map_query"
#: how much of the novelty is how unsure the type is
UNSURE = 0.2


@logged_once()
def map_query(
    adata: AnnData,
    reference: AnnData,
    model: SSLModel | str | Path,
    *,
    labels_key: str | None = None,
    batch_key: str | None = None,
    reference_batch_key: str | None = None,
    layer: str | None = None,
    orthologs: pd.DataFrame | str | Path | None = None,
    coverage: float | None = 0.9,
    unlabeled_category: str = "Unknown",
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Map cells of new batches into the embedding of a reference, without training.

    The model embeds them as it embeds its own cells, after what sets a new batch apart from like cells of the reference
    is taken off its genes. Types come with prediction sets, which hold the true one as often as is asked for, and each cell
    with its novelty.

    Parameters
    ----------
    adata
        The query: cells × genes with raw counts (of a model of log-normalised values, with these). Only ``obs``, ``obsm``
        and ``uns`` are written.
    reference
        The cells that the model was trained on, or others like them, with the same kind of values; not changed.
    model
        The trained model, or its folder (``save_model`` of :func:`sc_ssl.tl.embed`).
    labels_key
        Column of ``reference.obs`` with cell types; ``None`` maps without annotating.
    batch_key
        Column of ``adata.obs`` with the batches of the query, each of which is aligned with the reference on its own; ``None``
        takes it for one batch. Its batches are new to the model, whatever their names.
    reference_batch_key
        Column of ``reference.obs`` with its batches, which prediction sets are calibrated over; by default the model's.
    layer
        Layer of counts in both; ``None`` takes ``layers["counts"]`` if there, else ``X``.
    orthologs
        As of :func:`sc_ssl.pp.map_orthologs`: needed when the genes are named after different species.
    coverage
        Share of cells whose prediction set holds their type, in (0, 1); ``None`` makes no sets.
    unlabeled_category
        Value of ``reference.obs[labels_key]`` for cells without a type, and the type of cells here that have no counts.
    key_added
        Goes before the name of each result, followed by ``_``, and is that of the record in ``uns``.
    copy
        Write to a copy and return it; of backed cells, a copy in memory.

    Returns
    -------
    ``None``, or the copy. Sets the following fields, ``<method>`` being ``masksc`` for example:

    ``adata.obsm['X_<method>']`` : (n_obs, n_latent) float32
        The embedding, beside that of the reference.
    ``adata.obsm['X_umap']`` : (n_obs, 2) float32
        Where ``reference.obsm`` has ``X_umap``: the median of the coordinates of the 15 nearest reference cells.
    ``adata.obs['novelty']`` : float32
        In [0, 1], higher for cells of types that the reference lacks: distance to the nearest reference cells, as a share of it
        and the spacing of cells there and in the query, near 0.5 among cells alike; with ``labels_key`` also how unsure the
        type is. 1 for cells without counts.
    ``adata.uns['map_query']`` : dict
        ``params``, ``versions``, ``genes``, ``seconds``; with types ``classes``, and with sets ``n_calibration``, the number
        of cells that they are calibrated on.

    With ``labels_key``, ``<key>`` being its name:

    ``adata.obs['<key>']`` : categorical of str
        The most probable type; ``unlabeled_category`` for cells without counts.
    ``adata.obs['<key>_score']`` : float32
        Its probability.
    ``adata.obsm['<key>_proba']`` : float32 (n_obs, k)
        The probability of each type, in the order of ``classes``.
    ``adata.obsm['<key>_set']`` : bool (n_obs, k)
        Which types are in the cell's prediction set; none are where no type is probable enough.

    Raises
    ------
    KeyError
        No such column or layer.
    ValueError
        Not the values that the model reads; under half of its genes; other species without ``orthologs``; under two types; too
        few annotated cells to calibrate ``coverage`` on; a field is there already that no earlier call has written.

    Notes
    -----
    *Alignment*: the gene means of each query batch are compared with the reference's in like cells
    (:func:`~sc_ssl.data.batch_statistics`) and their difference is taken off before the model's z-scores. Batches of fewer than
    20 cells are taken as they are.

    *Types* are the mean of a logistic regression (weight 2) and of near cells (1) on 50 principal components of the reference's
    expression over the model's genes, with the query aligned in the same way: on batches that were left out, types came out
    better from these than from the embeddings.

    *Prediction sets* are least ambiguous sets [1]_ by cross-conformal prediction [2]_: each batch of the reference, aligned
    with the others as a query is, is left out in turn, and predicted by the others (both votes weigh the same there). They promise
    their coverage for batches that differ from the reference's as those do from each other, and for cells of types that the
    reference has.

    *Novelty* is d / (d + s) with d the mean distance (of embeddings at length 1, not aligned) to the 15 nearest reference cells and s the
    mean of two spacings: among the reference there, and among the query around the cell, with as many neighbours as there are
    query cells to reference cells. With types it is 0.8 d / (d + s) + 0.2 (1 − p), p the probability of the most probable one:
    either alone misses new types that the other finds.

    References
    ----------
    .. [1] Sadinle, Lei & Wasserman 2019. Least ambiguous set-valued classifiers with bounded error levels. JASA 114:223-234.
    .. [2] Barber, Candès, Ramdas & Tibshirani 2021. Predictive inference with the jackknife+. Annals of Statistics 49:486-507.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> reference, query = adata[:500].copy(), adata[500:].copy()
    >>> sc_ssl.models.MaskedAutoencoder.setup_anndata(reference)
    >>> model = sc_ssl.models.MaskedAutoencoder(reference)
    >>> model.train(max_epochs=20)
    >>> sc_ssl.tl.map_query(query, reference, model, labels_key="cell_type", key_added="mapped")
    >>> sorted(query.obsm)
    ['mapped_X_mae', 'mapped_cell_type_proba', 'mapped_cell_type_set']
    >>> query.obs["mapped_novelty"].shape
    (200,)
    """
    start = time.perf_counter()
    model = _given(model)
    kind, own_key = (model.setup_arguments[name] for name in ("input", "batch_key"))
    if coverage is not None:
        check_inside("coverage", coverage)
    known, query = find(reference, layer, kind, of="reference"), find(adata, layer, kind, min_cells=1)
    if reference_batch_key is None and own_key in reference.obs:
        reference_batch_key = own_key
    types = None if labels_key is None else Types.read(reference, labels_key, unlabeled_category)
    if labels_key is not None and reference_batch_key is not None:
        labels = as_names(obs_column(reference, labels_key))
        warn_of_confounded(obs_categories(known, reference_batch_key), labels, reference_batch_key)
    keys = query_keys(model.method, labels_key, key_added)
    keys = {name: key for name, key in keys.items() if name not in _left_out(reference, coverage)}
    check_free(adata, list(keys.values()), key_added or RECORD)
    batches = _codes(known, reference_batch_key), _codes(query, batch_key)
    with seeded(0):
        pair = Pair.read(model, known, query, *batches, orthologs)
        values = _embedded(pair, reference)
        predicted = None if types is None else predict_types(pair, types, coverage)
    more: dict[str, Any] = {}
    if types is not None and predicted is not None:
        values |= _typed(types.names, predicted, query.library_size <= 0, unlabeled_category)
        values["novelty"] = (1 - UNSURE) * values["novelty"] + UNSURE * (1 - values["score"])
        more = {"classes": np.asarray(types.names, dtype=object)}
        if predicted.n_calibration is not None:
            more["n_calibration"] = predicted.n_calibration
    params = {"method": model.method, "labels_key": labels_key, "batch_key": batch_key, "layer": layer}
    params |= {"reference_batch_key": reference_batch_key, "coverage": coverage, "key_added": key_added}
    params |= {"unlabeled_category": unlabeled_category, "counts_from": query.name}
    values["novelty"] = np.where(query.library_size > 0, values["novelty"], np.float32(1))
    done = record(pair.genes, params, **more, seconds=time.perf_counter() - start)
    fields: dict[Field, Any] = {key: values[name] for name, key in keys.items()}
    return write(adata, fields, key_added or RECORD, done, copy=copy)


def _given(model: SSLModel | str | Path) -> SSLModel:
    """The trained model, or the one of the folder, which must embed counts or log-normalised values."""
    if not isinstance(model, SSLModel):
        if not isinstance(model, str | Path) or not Path(model).expanduser().is_dir():
            raise ValueError(
                f"model is a trained model or the folder of a saved one, found {model!r}; tl.embed(reference, "
                "save_model=folder) makes one."
            )
        model = models.load(model)
    if isinstance(model, CellClassifier) or model.setup_arguments["input"] not in INPUTS:
        raise ValueError(
            f"a {type(model).__name__} embeds no cells among others; map with the model that it came from."
        )
    if not model.is_trained:
        raise ValueError(f"the {type(model).__name__} is not trained; call its train() first.")
    return model


def _left_out(reference: AnnData, coverage: float | None) -> set[str]:
    """Results that are not made: coordinates where the reference has none, and sets where none are asked for."""
    return ({"umap"} if "X_umap" not in reference.obsm else set()) | ({"set"} if coverage is None else set())


def _codes(counts: Counts, batch_key: str | None) -> np.ndarray:
    """Batch of each cell, codes from 0, (n,)."""
    if batch_key is None:
        return np.zeros(counts.n_obs, np.int64)
    return pd.factorize(obs_categories(counts, batch_key), sort=True)[0].astype(np.int64)


def _embedded(pair: Pair, reference: AnnData) -> dict[str, Any]:
    """Embedding, novelty and coordinates of the query."""
    known_nd, query_nd = pair.embed_known(), pair.embed_query(aligned=True)
    # batches are not aligned for the novelty: of a type that only the query has, alignment takes a part for a shift
    values = {"embedding": query_nd, "novelty": novelty(known_nd, pair.embed_query(aligned=False))}
    if "X_umap" in reference.obsm:
        values["umap"] = place(known_nd, query_nd, reference.obsm["X_umap"])
    return values


def _typed(names: list[str], predicted: Predicted, empty_n: np.ndarray, unlabeled_category: str) -> dict[str, Any]:
    """Types, scores, probabilities and sets; of cells without counts nothing is known."""
    proba_nk = predicted.proba_mk.copy()
    proba_nk[empty_n] = 1 / len(names)
    type_n = np.asarray(names, dtype=object)[proba_nk.argmax(axis=1)]
    type_n[empty_n] = unlabeled_category
    found = {"types": pd.Categorical(type_n), "score": proba_nk.max(axis=1), "proba": proba_nk}
    if predicted.set_mk is not None:
        found["set"] = predicted.set_mk & ~empty_n[:, None]
    return found
