"""The rows of the clustering table: each turns raw counts into an embedding."""

from itertools import product

import numpy as np
from anndata import AnnData
from sklearn.decomposition import NMF, PCA, TruncatedSVD
from sklearn.pipeline import make_pipeline

from benchmarks.quality.cells import variable_genes, z_scores
from benchmarks.quality.data import load
from benchmarks.quality.embeddings import Embed, ours, pca_standard, pca_weighed, scvi, untrained
from sc_ssl import tl
from sc_ssl.train import seeded

from . import scmae as scmae_network


def clustering_model(method: str) -> Embed:
    """The latent space of a model that takes the annotated number of clusters, as K-means does."""

    def embed(adata: AnnData, seed: int) -> np.ndarray:
        return ours(method, n_clusters=adata.obs["cell_type"].nunique())(adata, seed)

    return embed


def nmf_from(name: str) -> Embed:
    """NMF with the programmes of another data set, for data whose genes have the same kind of names."""

    def embed(adata: AnnData, seed: int) -> np.ndarray:
        tl.nmf_transfer(adata, load(name), random_state=seed, key_added="benchmark")
        return adata.obsm["benchmark"]

    return embed


def pca_raw(adata: AnnData, seed: int) -> np.ndarray:
    """Two components of raw counts, neither normalised nor logged: what the mask-sc paper's row "PCA" is."""
    return PCA(2, svd_solver="arpack", random_state=seed).fit_transform(adata.X)


def nmf_raw(adata: AnnData, seed: int) -> np.ndarray:
    """Non-negative factors of raw counts, as many as annotated types: what the mask-sc paper's row "scRNA" is.

    The penalties are those of the original scripts (alpha 1), which leave the factors nearly as they are.
    """
    genes_by_cells, n_types = adata.X.T.tocsr(), adata.obs["cell_type"].nunique()
    n_genes, n_cells = genes_by_cells.shape
    penalty = {"alpha_W": 1 / n_cells, "alpha_H": 1 / n_genes, "l1_ratio": 0.75}  # alpha = 1 before scikit-learn 1.2
    model = NMF(n_types, init="nndsvdar", tol=0, max_iter=100, random_state=seed, **penalty)
    model.fit(genes_by_cells)
    return np.ascontiguousarray(model.components_.T)


def scmae(adata: AnnData, seed: int) -> np.ndarray:
    """Masking in the style of scMAE, on its 1,000 genes."""
    x_ng = log_expression(adata, 1000, scaled=True)
    with seeded(seed):
        return scmae_network.train(x_ng)


def log_expression(adata: AnnData, n_genes: int, *, scaled: bool) -> np.ndarray:
    """The most variable genes, log1p of counts per median library; optionally z-scored and clipped at 10."""
    (x_ng,) = variable_genes(adata, n_genes=n_genes)
    return make_pipeline(*z_scores()).fit_transform(x_ng) if scaled else x_ng


def pca_grid(adata: AnnData) -> dict[str, np.ndarray]:
    """PCA over a grid of settings, from which only labels can pick the best: an upper bound and no method."""
    embeddings = {}
    for n_genes, scaled in product((500, 1000, 2000, 4096), (True, False)):
        x = log_expression(adata, n_genes, scaled=scaled)
        x = x - x.mean(axis=0)
        components = TruncatedSVD(50, random_state=0).fit_transform(x)
        for n_components, cosine in product((10, 20, 50), (False, True)):
            z = components[:, :n_components]
            if cosine:
                z = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
            embeddings[
                f"{n_genes} genes, {'z' if scaled else 'log'}, {n_components} PCs, {'cosine' if cosine else 'Euclid'}"
            ] = z
    return embeddings


METHODS: dict[str, Embed] = {
    "masksc": ours("masksc"),
    "contrastive_sc": ours("contrastive_sc"),
    "scdeepcluster": clustering_model("scdeepcluster"),
    "sczidesk": clustering_model("sczidesk"),
    "pca_standard": pca_standard,
    "pca_weighed": pca_weighed,
    "pca_cosine": ours("pca_cosine"),
    "nmf": ours("nmf"),
    "pca_raw": pca_raw,
    "nmf_raw": nmf_raw,
    "mae": ours("mae"),
    "scmae": scmae,
    "random_encoder": untrained("contrastive_sc"),
}

#: rows whose largest coefficient is the cluster, as in the paper, instead of K-means
BY_LARGEST = ("nmf_raw",)

#: rows that are run only when they are named: they take ten minutes, or need another data set
ON_DEMAND: dict[str, Embed] = {"scvi": scvi} | {
    f"nmf_from_{name}": nmf_from(name) for name in ("pbmc_zheng_facs", "pbmc_donorA_mudan")
}
