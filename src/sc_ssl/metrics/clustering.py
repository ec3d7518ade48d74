"""The clustering protocol of the papers: K-means on the embedding, compared with the annotation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score
from sklearn.metrics.cluster import contingency_matrix

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def clustering(
    embedding: ArrayLike,
    labels: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    n_clusters: int | None = None,
    common_space: ArrayLike | None = None,
    random_state: int = 0,
) -> pd.Series:
    """Score an embedding by how well its clusters agree with the annotated cell types.

    The silhouette is given three ways, because papers mean different things by it: each method's silhouette in its
    own space (``silhouette``) grows when a method merely sharpens its clusters, and cannot be compared between
    methods; ``silhouette_common`` can.

    Parameters
    ----------
    embedding
        (n_cells, n_dims), e.g. ``adata.obsm["X_masksc"]``.
    labels
        (n_cells,) annotated cell types, e.g. ``adata.obs["cell_type"]``.
    clusters
        (n_cells,) predicted clusters. Default: :func:`kmeans` on the embedding.
    n_clusters
        Number of clusters for K-means. Default: number of annotated types. Not together with ``clusters``.
    common_space
        (n_cells, n_dims) a space that is the same for all methods compared, e.g. :func:`pca_space`.
    random_state
        Seed of K-means.

    Returns
    -------
    Series with these entries:

    ``ari``
        Adjusted Rand index, 1 = identical partitions, 0 = chance.
    ``nmi``
        Mutual information divided by the arithmetic mean of the two entropies, in [0, 1].
    ``accuracy``
        Fraction of cells that are right under the best one-to-one matching, see :func:`accuracy`.
    ``silhouette``
        Mean silhouette of the clusters in the embedding, in [-1, 1]. What the papers report.
    ``silhouette_labels``
        Mean silhouette of the annotated types in the embedding.
    ``silhouette_common``
        Mean silhouette of the clusters in ``common_space``, NaN without one.

    A silhouette is NaN where it is not defined: a single cluster, or one per cell.

    Raises
    ------
    ValueError
        If the lengths differ, values are missing, only one cell type is annotated, or ``n_clusters`` is larger than
        the number of cells.

    Notes
    -----
    The silhouettes take time proportional to the square of the number of cells.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> components = sc_ssl.metrics.pca_space(adata.X)
    >>> scores = sc_ssl.metrics.clustering(components, adata.obs["cell_type"])
    >>> bool(scores["ari"] > 0.4)
    True
    """
    embedding_nd = check_space(embedding, "embedding")
    n_cells = len(embedding_nd)
    label_n = check_partition(labels, "labels", n_cells)
    n_types = label_n.max() + 1
    if n_types < 2:
        raise ValueError("labels should name at least two cell types, but all cells have the same one.")
    if clusters is not None and n_clusters is not None:
        raise ValueError("Give either clusters or n_clusters: n_clusters is for K-means, which given clusters replace.")
    if clusters is None:
        clusters = kmeans(embedding_nd, n_types if n_clusters is None else n_clusters, random_state=random_state)
    cluster_n = check_partition(clusters, "clusters", n_cells)
    common_nd = None if common_space is None else check_space(common_space, "common_space", n_cells)
    return pd.Series(
        {
            "ari": adjusted_rand_score(label_n, cluster_n),
            "nmi": normalized_mutual_info_score(label_n, cluster_n, average_method="arithmetic"),
            "accuracy": accuracy(label_n, cluster_n),
            "silhouette": _silhouette(embedding_nd, cluster_n),
            "silhouette_labels": _silhouette(embedding_nd, label_n),
            "silhouette_common": np.nan if common_nd is None else _silhouette(common_nd, cluster_n),
        },
        dtype=float,
    )


def kmeans(embedding: ArrayLike, n_clusters: int, *, random_state: int = 0) -> NDArray[np.integer]:
    """Cluster the cells by K-means: k-means++ seeds, the best of 10 runs.

    Parameters
    ----------
    embedding
        (n_cells, n_dims).
    n_clusters
        Between 1 and n_cells.
    random_state
        Seed.

    Returns
    -------
    (n_cells,) cluster of each cell, 0 … n_clusters - 1.

    Raises
    ------
    ValueError
        If the embedding has missing or infinite values, or ``n_clusters`` is out of range.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> clusters = sc_ssl.metrics.kmeans(sc_ssl.metrics.pca_space(adata.X), 8)
    >>> clusters.shape
    (700,)
    """
    embedding_nd = check_space(embedding, "embedding")
    if not 1 <= n_clusters <= len(embedding_nd):
        raise ValueError(
            f"n_clusters should lie between 1 and the number of cells, {len(embedding_nd)}, but is {n_clusters}."
        )
    model = KMeans(n_clusters, init="k-means++", n_init=10, random_state=random_state)
    return np.asarray(model.fit_predict(embedding_nd))


def accuracy(labels: ArrayLike, clusters: ArrayLike) -> float:
    """Fraction of cells whose cluster is matched to their cell type, under the best one-to-one matching.

    The numbers of types and clusters may differ; all cells of an unmatched cluster count as wrong.

    Parameters
    ----------
    labels, clusters
        (n_cells,) each, any values.

    Returns
    -------
    In (0, 1].

    Raises
    ------
    ValueError
        If the lengths differ or values are missing.

    Examples
    --------
    >>> import sc_ssl
    >>> sc_ssl.metrics.accuracy(["B", "B", "T", "T"], [0, 0, 1, 0])
    0.75
    """
    label_n = check_partition(labels, "labels")
    cluster_n = check_partition(clusters, "clusters", len(label_n))
    table = contingency_matrix(label_n, cluster_n)
    return float(table[linear_sum_assignment(table, maximize=True)].sum() / len(label_n))


def _silhouette(space_nd: NDArray[np.floating], cluster_n: NDArray[np.integer]) -> float:
    if not 2 <= len(np.unique(cluster_n)) < len(cluster_n):
        return np.nan
    return float(silhouette_score(space_nd, cluster_n))


def check_space(space: ArrayLike, name: str, n_cells: int | None = None) -> NDArray[np.floating]:
    """Return the space as an array; an error unless it is (n_cells, n_dims) and finite."""
    space_nd = np.asarray(space)
    if space_nd.ndim != 2 or 0 in space_nd.shape:
        raise ValueError(f"{name} should have shape (n_cells, n_dims), but has {space_nd.shape}.")
    _check_length(len(space_nd), name, n_cells)
    bad = np.flatnonzero(~np.isfinite(space_nd).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{name} should be finite, but {len(bad)} of {len(space_nd)} cells have NaN or infinite values: "
            f"rows {_first(bad)}. Leave these cells out, or look at how they were embedded."
        )
    return space_nd


def check_partition(partition: Any, name: str, n_cells: int | None = None) -> NDArray[np.integer]:
    """Return the partition as codes 0, 1, …, so that strings, categories and numbers are one thing from here on."""
    values = partition if isinstance(partition, pd.Series | pd.Categorical) else np.asarray(partition)
    code_n: NDArray[np.integer] = pd.factorize(values)[0]
    if not len(code_n):
        raise ValueError(f"{name} should name the group of each cell, but is empty.")
    _check_length(len(code_n), name, n_cells)
    bad = np.flatnonzero(code_n < 0)
    if len(bad):
        raise ValueError(
            f"{name} should have a value for each cell, but {len(bad)} of {len(code_n)} are missing: "
            f"rows {_first(bad)}. Leave these cells out."
        )
    return code_n


def _check_length(found: int, name: str, expected: int | None) -> None:
    if expected is not None and found != expected:
        raise ValueError(f"{name} should have one row for each of the {expected} cells, but has {found}.")


def _first(rows: NDArray[np.integer]) -> str:
    return ", ".join(map(str, rows[:5])) + (", …" if len(rows) > 5 else "")
