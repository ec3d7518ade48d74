"""Several methods on the same cells, scored alike."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from sc_ssl._keys import COMPARED, embedding_keys
from sc_ssl._logging import logger
from sc_ssl._names import as_names
from sc_ssl.data import check_anndata, evenly_spread, obs_categories, warn_of_confounded
from sc_ssl.metrics import batch_mixing, clustering
from sc_ssl.metrics.clustering import check_space

from ._record import check_free, record
from .embed import METHODS, embed

#: measures are taken of at most so many cells, evenly spread
MAX_SCORED = 10_000
#: of :func:`sc_ssl.metrics.clustering`, those that can be compared between embeddings
AGREEMENT = ("ari", "nmi", "accuracy", "silhouette_labels")


def compare(
    adata: AnnData,
    methods: Sequence[str] | Mapping[str, Mapping[str, Any]],
    *,
    labels: str | None = None,
    batch_key: str | None = None,
    layer: str | None = None,
    input: Literal["counts", "log1p"] = "counts",
    max_epochs: int | None = None,
    random_state: int | Iterable[int] = 0,
    accelerator: str = "auto",
    train_kwargs: Mapping[str, Any] | None = None,
    key_added: str = COMPARED,
) -> pd.DataFrame:
    """Embed cells by several methods and score the embeddings alike; :func:`sc_ssl.pl.compare` draws the table.

    Parameters
    ----------
    adata
        Cells × genes with raw counts. Only ``obsm`` and ``uns`` are written, and clusters to ``obs``.
    methods
        Names of methods as :func:`sc_ssl.tl.embed` takes them, and keys of embeddings that are in ``obsm`` already, such as
        ``"X_pca"``. Or ``{name: options}`` with arguments of :func:`~sc_ssl.tl.embed`, of which ``method`` is by default
        the name: ``{"masksc": {}, "masksc, 32": {"method": "masksc", "n_latent": 32}}``.
    labels
        Column of ``obs`` with annotated cell types; cells without one are embedded and not scored.
    batch_key
        Column of ``obs`` with the batch, which is handed to all methods and whose mixing is scored.
    layer, input, max_epochs, accelerator, train_kwargs
        As of :func:`~sc_ssl.tl.embed`.
    random_state
        Seed, or several: each method is run with each. The embeddings that stay are those of the last one.
    key_added
        Name of the table in ``uns``.

    Returns
    -------
    A table with the columns ``method``, ``seed``, ``measure`` and ``score``, a row each. The measures are

    ``ari``, ``nmi``, ``accuracy``
        Agreement of the types with K-means clusters of the embedding, as many as there are types; 1 is best
        (:func:`sc_ssl.metrics.clustering`).
    ``silhouette_labels``
        Silhouette of the types in the embedding, in [-1, 1].
    ``batch_mixing``
        :func:`sc_ssl.metrics.batch_mixing`, within types where ``labels`` are given; about 1 is best.
    ``seconds``
        Of the whole call; none for embeddings that were there.

    Also sets the following fields:

    ``adata.obsm['X_<method>']``, ``adata.uns['<method>']``
        Of each method, as :func:`~sc_ssl.tl.embed` does; ``X_<name>`` for both where options are given by name.
    ``adata.uns['compare' | key_added]`` : dict
        ``table``, ``params``, ``versions``, ``seconds``.

    Raises
    ------
    ValueError
        No method, or one that is not known; neither ``labels`` nor ``batch_key``; all that :func:`~sc_ssl.tl.embed` raises.
    KeyError
        A column that is not there.

    Notes
    -----
    Above 10,000 cells, that many evenly spread ones are scored. Means over data sets say more than one: see the benchmarks.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> table = sc_ssl.tl.compare(adata, ["masksc", "pca_cosine"], labels="cell_type")
    >>> table.pivot_table("score", "method", "measure").columns.tolist()
    ['accuracy', 'ari', 'nmi', 'seconds', 'silhouette_labels']
    >>> figure = sc_ssl.pl.compare(table, return_fig=True)
    """
    start = time.perf_counter()
    check_anndata(adata)
    seeds = list(random_state) if isinstance(random_state, Iterable) else [random_state]
    calls = _calls(adata, methods)
    scored = _Scored(adata, labels, batch_key)
    check_free(adata, [], key_added)
    shared = {"layer": layer, "input": input, "max_epochs": max_epochs, "train_kwargs": train_kwargs}
    shared |= {"batch_key": batch_key, "accelerator": accelerator}
    rows = []
    for i, (name, options) in enumerate(calls.items()):
        logger.info("%s (%d of %d)", name, i + 1, len(calls))
        for seed in seeds if options is not None else [0]:
            key, seconds = name, {}
            if options is not None:
                embed(adata, **{**shared, **options, "random_state": seed})
                key, uns_key = embedding_keys(options["method"], options.get("key_added"))
                seconds = {"seconds": adata.uns[uns_key]["seconds"]}
            scores = scored(adata.obsm[key], seed) | seconds
            rows += [(name, seed, measure, score) for measure, score in scores.items()]
    table = pd.DataFrame(rows, columns=["method", "seed", "measure", "score"])
    params = {"methods": list(calls), "labels": labels, "batch_key": batch_key, "seeds": seeds, **shared}
    adata.uns[key_added] = record(None, params, table=table, seconds=time.perf_counter() - start)
    return table


def _calls(
    adata: AnnData, methods: Sequence[str] | Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any] | None]:
    """Name → arguments of ``embed``, ``None`` for an embedding that is there; all of them are known."""
    if isinstance(methods, str):
        methods = [methods]
    named = isinstance(methods, Mapping)
    calls: dict[str, dict[str, Any] | None] = {}
    for name in methods:
        options = {"method": name, **(methods[name] if named else {})}
        if options["method"] in METHODS:
            calls[name] = options | ({"key_added": f"X_{name}"} if named and options != {"method": name} else {})
        elif name in adata.obsm and options == {"method": name}:
            calls[name] = None
        else:
            raise ValueError(
                f"methods are of {', '.join(map(repr, METHODS))}, or keys of adata.obsm, which has "
                f"{', '.join(map(repr, adata.obsm)) or 'none'}; found {options['method']!r}."
            )
    if not calls:
        raise ValueError("methods should name at least one method or embedding, found none.")
    return calls


class _Scored:
    """The cells that are scored, and the measures of an embedding of them."""

    def __init__(self, adata: AnnData, labels: str | None, batch_key: str | None) -> None:
        if labels is None and batch_key is None:
            raise ValueError("there is nothing to score by; name a column of obs by labels= or batch_key=, or both.")
        for key in (labels, batch_key):
            if key is not None and key not in adata.obs:
                raise KeyError(f"{key!r} is not in adata.obs, which has {', '.join(adata.obs) or 'none'}.")
        known = np.arange(adata.n_obs) if labels is None else np.flatnonzero(adata.obs[labels].notna())
        self.rows = known[evenly_spread(len(known), MAX_SCORED)]
        self.labels = None if labels is None else as_names(adata.obs[labels].iloc[self.rows]).to_numpy(str)
        self.batches = None if batch_key is None else np.asarray(obs_categories(adata, batch_key))[self.rows]
        if self.labels is not None and self.batches is not None:
            warn_of_confounded(self.batches, self.labels, batch_key)
        if self.labels is not None and len(np.unique(self.labels)) < 2:
            raise ValueError(
                f"obs[{labels!r}] should name at least two cell types, found {len(np.unique(self.labels))}."
            )

    def __call__(self, embedding: Any, seed: int) -> dict[str, float]:
        """Measure → score."""
        dense = embedding.toarray() if hasattr(embedding, "toarray") else np.asarray(embedding)
        z_nd, scores = check_space(dense, "the embedding")[self.rows], {}
        if self.labels is not None:
            found = clustering(z_nd, self.labels, random_state=seed)
            scores |= {measure: float(found[measure]) for measure in AGREEMENT}
        if self.batches is not None:
            scores["batch_mixing"] = batch_mixing(z_nd, self.batches, self.labels)
        return scores
