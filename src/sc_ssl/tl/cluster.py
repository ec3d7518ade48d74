"""Clusters of an embedding, their number chosen without labels or given."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict
from numbers import Integral
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.sparse import issparse
from scipy.stats import mode
from sklearn.neighbors import NearestNeighbors

from sc_ssl._checks import check_choice
from sc_ssl._keys import cluster_key, stability_key
from sc_ssl._logging import logger
from sc_ssl.data import check_anndata
from sc_ssl.metrics.clustering import check_space
from sc_ssl.train import seeded

from ._consensus import consensus
from ._n_clusters import CRITERION, Curve, judge, n_distinct
from ._partitions import N_NEIGHBORS, PARTITIONS
from ._record import Field, check_free, record, write

#: cells on which numbers of clusters are compared; cells that are clustered, the others follow their neighbours
MAX_JUDGED = 2_000
MAX_CLUSTERED = 50_000
#: method of :func:`consensus`
CONSENSUS = "consensus"
#: largest number of clusters that is tried, and cells there should be for each
MAX_CLUSTERS = 25
MIN_CELLS_PER_CLUSTER = 10


def cluster(
    adata: AnnData,
    use_rep: str = "X_masksc",
    *,
    n_clusters: int | None = None,
    method: Literal["consensus", "kmeans", "leiden", "gmm"] = "consensus",
    key_added: str | None = None,
    k_range: Iterable[int] | None = None,
    random_state: int | np.random.Generator | None = 0,
    copy: bool = False,
) -> AnnData | None:
    """Cluster the cells of an embedding; without ``n_clusters``, their number is chosen from the embedding alone.

    Each number of clusters in ``k_range`` is tried, and the one with the highest criterion is taken: the mean of the
    silhouette [1]_, which favours compact clusters, and of the modularity [2]_ of the clusters in the graph of nearest
    neighbours, which favours whole ones. Beside it stands the stability: how far the clusters of 80 % of the cells
    agree with those of all, over five draws. It is reported and does not choose. :func:`sc_ssl.pl.cluster_choice`
    draws both.

    Parameters
    ----------
    adata
        Cells with an embedding in ``obsm``. Only ``obs`` and ``uns`` are written.
    use_rep
        Name in ``obsm`` of the embedding, (n_obs, n_dims), finite; distances are Euclidean in it.
    n_clusters
        Number of clusters, from 2 to the number of distinct cells; ``None`` chooses it.
    method
        ``"consensus"``: what 200 K-means runs on halves of the cells agree on [3]_, hardly another with another seed.
        ``"kmeans"``: k-means++ seeds, the best of 10 runs. ``"leiden"``: modularity clusters of the graph of 15
        nearest neighbours, the resolution found by bisection for each number of clusters. ``"gmm"``: mixture of
        Gaussians with diagonal covariances, the best of 3 runs.
    key_added
        Name of the result in both ``obs`` and ``uns``; by default ``masksc_cluster`` for ``X_masksc``.
    k_range
        Numbers of clusters to choose from; by default 2 to 25, but at least ten cells each on average.
    random_state
        Seed, or a generator to draw it from: the same seed gives the same clusters; the caller's random state is left
        alone. ``None`` runs on the caller's state.
    copy
        Write to a copy and return it; of backed cells, a copy in memory.

    Returns
    -------
    ``None``, or the copy. Sets the following fields:

    ``adata.obs['<rep>_cluster' | key_added]`` : categorical
        ``"0"``, ``"1"``, …, the largest cluster first.
    ``adata.obs['<rep>_cluster_stability' | '<key_added>_stability']`` : float32
        Of ``"consensus"``: in [0, 1], the share of runs in which a cell is together with the cells of its cluster.
    ``adata.uns['<rep>_cluster' | key_added]`` : dict
        ``n_clusters``; of ``"consensus"`` ``cluster_stability``, the mean of its cells' for each cluster; ``curve``: arrays ``n_clusters``, ``criterion``, ``stability`` (mean ARI over draws, 1 = the
        same clusters) and ``stability_sd``, one entry for each number of clusters tried, or for the one given;
        ``params``, ``versions``, ``seconds``.

    Raises
    ------
    KeyError
        No such embedding.
    ValueError
        Missing or infinite values; ``n_clusters`` or ``k_range`` below 2 or above the number of distinct cells; an
        unknown method; a method that cannot make that number of clusters of these cells; a field is there already that no
        earlier call has written.
    TypeError
        ``n_clusters`` is not an integer.

    Notes
    -----
    Numbers of clusters are compared on 2,000 cells drawn at random where there are more. Above 50,000 cells, that many
    are drawn and clustered, and each other cell joins the cluster that most of its 15 nearest among them belong to.

    ``"consensus"`` compares numbers of clusters by ``"kmeans"``.

    The graph is scanpy's, 15 neighbours. The criterion was chosen among sixteen by the ARI of the clusters on labelled
    data sets (``docs/results/clustering.md``). Take the number as a suggestion: annotations follow questions that no embedding
    knows of, and half of the numbers that were chosen there are four or more away from the annotated ones.

    References
    ----------
    .. [1] P. J. Rousseeuw, Silhouettes: a graphical aid to the interpretation and validation of cluster analysis,
       J. Comput. Appl. Math. 20 (1987) 53-65.
    .. [2] M. E. J. Newman, Modularity and community structure in networks, PNAS 103 (2006) 8577-8582.
    .. [3] A. Strehl and J. Ghosh, Cluster ensembles, J. Mach. Learn. Res. 3 (2002) 583-617; the stability is the item consensus
       of S. Monti et al., Consensus clustering, Machine Learning 52 (2003) 91-118.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> sc_ssl.tl.embed(adata, "pca_cosine")
    >>> sc_ssl.tl.cluster(adata, "X_pca_cosine", n_clusters=8)
    >>> adata.obs["pca_cosine_cluster"].nunique()
    8
    """
    start = time.perf_counter()
    check_anndata(adata)
    if k_range is not None and not isinstance(k_range, Iterable):
        raise TypeError(
            f"k_range takes numbers of clusters, such as range(2, 11), found {k_range!r}; or give n_clusters."
        )
    ks = None if k_range is None else sorted({_integer(k, "k_range") for k in k_range})
    n_clusters = None if n_clusters is None else _integer(n_clusters, "n_clusters")
    params = {"use_rep": use_rep, "n_clusters": n_clusters, "method": method, "k_range": ks, "key_added": key_added}
    check_choice("method", method, (CONSENSUS, *PARTITIONS))
    key = cluster_key(use_rep, key_added)
    fields: list[Field] = [("obs", key), ("obs", stability_key(key))][: 2 if method == CONSENSUS else 1]
    check_free(adata, fields, key)
    space_nd = _space(adata, use_rep)
    with seeded(random_state) as seed:
        rng = np.random.default_rng(np.random.randint(2**31))  # follows the seed, or without one the caller's state
        own_seed = int(rng.integers(2**31))
        drawn = draw(len(space_nd), MAX_CLUSTERED, rng)
        judged = drawn[draw(len(drawn), MAX_JUDGED, rng)]
        candidates = _candidates(n_clusters, ks, len(judged), n_distinct(space_nd[drawn]), use_rep)
        single = "kmeans" if method == CONSENSUS else method
        curve = judge(space_nd[judged], single, candidates, own_seed)
        chosen = _best(curve, method) if n_clusters is None else n_clusters
        if method == CONSENSUS:
            label_n, stability_n = consensus(space_nd[drawn], chosen, own_seed)
        else:
            label_n, stability_n = PARTITIONS[method](space_nd[drawn], own_seed)(chosen), None
        _check_found(label_n, n_clusters, method)
        near = _nearest(space_nd, drawn)
    labels = _largest_first(_vote(label_n, near))
    if n_clusters is None:
        logger.info("%d clusters have the highest %s.", chosen, CRITERION)
    params |= {"criterion": CRITERION, "random_state": seed}
    values = [pd.Categorical(labels.astype(str), [str(i) for i in range(labels.max() + 1)])]
    more: dict[str, Any] = {}
    if stability_n is not None:
        stability_n = stability_n if near is None else stability_n[near].mean(axis=1)
        values.append(stability_n)
        more = {"cluster_stability": np.bincount(labels, stability_n) / np.bincount(labels)}
    more |= {"n_clusters": int(labels.max() + 1), "curve": asdict(curve)}
    done = record(None, params, **more, seconds=time.perf_counter() - start)
    return write(adata, dict(zip(fields, values, strict=True)), key, done, copy=copy)


def _nearest(space_nd: np.ndarray, drawn: np.ndarray) -> np.ndarray | None:
    """Positions among the drawn cells of the nearest of each cell, (n, neighbours); ``None`` where all were drawn."""
    if len(drawn) == len(space_nd):
        return None
    found = NearestNeighbors(n_neighbors=N_NEIGHBORS, algorithm="brute").fit(space_nd[drawn])
    return found.kneighbors(space_nd, return_distance=False)


def _vote(label_n: np.ndarray, near: np.ndarray | None) -> np.ndarray:
    """Labels of the drawn cells, or where not all were drawn, of all cells by most of their nearest."""
    return label_n if near is None else mode(label_n[near], axis=1).mode


def default_range(n_cells: int) -> range:
    """Numbers of clusters to choose from."""
    return range(2, max(min(MAX_CLUSTERS, n_cells // MIN_CELLS_PER_CLUSTER), 2) + 1)


def _space(adata: AnnData, use_rep: str) -> np.ndarray:
    """The embedding, (n, d), finite."""
    if use_rep not in adata.obsm:
        present = ", ".join(map(repr, adata.obsm)) or "nothing"
        raise KeyError(f"{use_rep!r} is not in adata.obsm, which holds {present}; run sc_ssl.tl.embed first.")
    space = adata.obsm[use_rep]
    return check_space(space.toarray() if issparse(space) else space, f"obsm[{use_rep!r}]")


def _integer(value: Any, name: str) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} takes whole numbers of clusters, found {value!r}.")
    return int(value)


def draw(n_cells: int, at_most: int, rng: np.random.Generator) -> np.ndarray:
    """Rows in their order, drawn at random where there are more than that."""
    return np.arange(n_cells) if n_cells <= at_most else np.sort(rng.choice(n_cells, at_most, replace=False))


def _candidates(
    n_clusters: int | None, k_range: list[int] | None, n_judged: int, n_distinct: int, use_rep: str
) -> list[int]:
    """Numbers of clusters to judge: the one given, those given, or the default range."""
    if n_distinct == 1:
        raise ValueError(f"all cells are the same in obsm[{use_rep!r}]: there is nothing to cluster; was it computed?")
    if n_clusters is not None:
        name, ks = "n_clusters", [n_clusters]
    elif k_range is not None:
        name, ks = "k_range", k_range
    else:
        name, ks = "k_range", [k for k in default_range(n_judged) if k <= n_distinct]
    if not ks or ks[0] < 2 or ks[-1] > n_distinct:
        raise ValueError(
            f"{name} should lie between 2 and the number of distinct cells in obsm[{use_rep!r}], {n_distinct}, found "
            f"{', '.join(map(str, ks)) or 'none'}."
        )
    return ks


def _best(curve: Curve, method: str) -> int:
    """The number of clusters with the highest criterion, the smallest of equals."""
    if np.isnan(curve.criterion).all():
        tried = ", ".join(map(str, curve.n_clusters))
        raise ValueError(f"method={method!r} makes none of these numbers of clusters: {tried}; widen k_range.")
    return int(curve.n_clusters[np.nanargmax(curve.criterion)])


def _check_found(label_n: np.ndarray, n_clusters: int | None, method: str) -> None:
    n_found = len(np.unique(label_n))
    if n_clusters is not None and n_found != n_clusters:
        raise ValueError(
            f"method={method!r} does not make n_clusters={n_clusters} clusters of these cells; the nearest number it "
            f"makes is {n_found}. Ask for that, or take method='kmeans'."
        )


def _largest_first(label_n: np.ndarray) -> np.ndarray:
    """Labels 0, 1, … by falling size, equals in the order of their first cells."""
    _, first, label_n, size = np.unique(label_n, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(size), dtype=int)
    rank[np.lexsort((first, -size))] = np.arange(len(size))
    return rank[label_n]
