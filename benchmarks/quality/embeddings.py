"""The rows of a clustering table: each turns raw counts into an embedding."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import numpy as np
import scanpy as sc
from anndata import AnnData
from scipy import sparse
from sklearn.decomposition import NMF, PCA, TruncatedSVD

from sc_ssl import _compat, models, tl
from sc_ssl._keys import SIZE_FACTOR
from sc_ssl._threads import threads_kept
from sc_ssl.data import Cells, gene_weights, principal_components
from sc_ssl.metrics import pca_space
from sc_ssl.pp import select_genes
from sc_ssl.train import seeded

from . import _scmae
from ._data import load

#: raw counts and a seed to an embedding
Embed = Callable[[AnnData, int], np.ndarray]
QUIET: dict[str, Any] = {"enable_progress_bar": False}


def ours(method: str, **options: Any) -> Embed:
    """A method of this package at its defaults, or with other options."""

    def embed(adata: AnnData, seed: int) -> np.ndarray:
        tl.embed(adata, method, random_state=seed, key_added="benchmark", train_kwargs=QUIET, **options)
        return adata.obsm["benchmark"]

    return embed


def clustering_model(method: str) -> Embed:
    """The latent space of a model that is told the annotated number of clusters, as K-means is."""

    def embed(adata: AnnData, seed: int) -> np.ndarray:
        return ours(method, n_clusters=adata.obs["cell_type"].nunique())(adata, seed)

    return embed


def function(method: str, **options: Any) -> Embed:
    """A method of this package that is a function: nothing is trained."""

    def embed(adata: AnnData, seed: int) -> np.ndarray:
        tl.embed(adata, method, random_state=seed, key_added="benchmark", **options)
        return adata.obsm["benchmark"]

    return embed


def nmf_from(name: str) -> Embed:
    """NMF with the programmes of another data set, for data whose genes have the same kind of names."""

    def embed(adata: AnnData, seed: int) -> np.ndarray:
        tl.nmf_transfer(adata, load(name), random_state=seed, key_added="benchmark")
        return adata.obsm["benchmark"]

    return embed


def pca_standard(adata: AnnData, seed: int) -> np.ndarray:
    """2,000 most variable genes, z-scored and clipped at 10, 50 components; the same for every seed."""
    return pca_space(adata.X)


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


def pca_weighed(adata: AnnData, seed: int) -> np.ndarray:
    """20 components of 4,096 genes weighed as in MaskSC: what the weights alone are worth; the same for every seed."""
    genes = list(select_genes(adata, 4096))
    # a key that is not there: the library size is that of all genes
    cells = Cells.from_anndata(AnnData(adata.X, var=adata.var[[]]), genes, size_factor_key=SIZE_FACTOR)
    return principal_components(cells, n_comps=20, weight_g=gene_weights(cells))


@contextmanager
def built(model_class: type[models.SSLModel], adata: AnnData, seed: int, **options: Any) -> Iterator[models.SSLModel]:
    """A model of this package on its 4,096 genes, not trained yet; inside the block random numbers follow the seed."""
    with seeded(seed):
        cells = AnnData(sparse.csr_matrix(adata.X), var=adata.var[[]])[:, select_genes(adata, 4096)].copy()
        model_class.setup_anndata(cells)
        try:
            yield model_class(cells, **options)
        finally:
            _compat.release(model_class, cells)


def untrained(model_class: type[models.SSLModel]) -> Embed:
    """The network of a method on the same genes, untrained."""

    def embed(adata: AnnData, seed: int) -> np.ndarray:
        with built(model_class, adata, seed) as model:
            model.is_trained_ = True
            return model.get_latent_representation()

    return embed


def scvi(adata: AnnData, seed: int, *, batch_key: str | None = None) -> np.ndarray:
    """ScVI with its defaults (10 dimensions, 400 epochs up to 20,000 cells) on our 2,000 genes."""
    return trained_scvi(adata, seed, batch_key=batch_key).get_latent_representation()


def trained_scvi(adata: AnnData, seed: int, *, batch_key: str | None = None) -> Any:
    """The model behind :func:`scvi`."""
    import scvi as scvi_tools

    genes = select_genes(adata, 2000, batch_key=batch_key)
    obs = adata.obs[[batch_key]] if batch_key else adata.obs[[]]
    cells = AnnData(sparse.csr_matrix(adata.X), obs=obs, var=adata.var[[]])[:, genes].copy()
    with seeded(seed):
        scvi_tools.settings.seed = seed
        scvi_tools.model.SCVI.setup_anndata(cells, batch_key=batch_key)
        model = scvi_tools.model.SCVI(cells)
        model.train(**QUIET)
        return model


def scmae(adata: AnnData, seed: int) -> np.ndarray:
    """Masking in the style of scMAE, on its 1,000 genes."""
    x_ng = log_normalized(adata, 1000, scaled=True)
    with seeded(seed):
        return _scmae.train(x_ng)


def log_normalized(adata: AnnData, n_genes: int, *, scaled: bool) -> np.ndarray:
    """The most variable genes, log1p of counts per median library; z-scored and clipped at 10 on demand."""
    genes = select_genes(adata, n_genes)
    cells = AnnData(sparse.csr_matrix(adata.X, copy=True), var=adata.var[[]])
    with threads_kept():
        sc.pp.normalize_total(cells)
        sc.pp.log1p(cells)
        x_ng = cells[:, genes].X.toarray()
        return sc.pp.scale(x_ng, max_value=10) if scaled else x_ng


def pca_grid(adata: AnnData) -> dict[str, np.ndarray]:
    """PCA over a grid of settings, from which only labels can pick the best: no method, but one to be measured by."""
    embeddings = {}
    for n_genes, scaled in product((500, 1000, 2000, 4096), (True, False)):
        x = log_normalized(adata, n_genes, scaled=scaled)
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
    "pca_cosine": function("pca_cosine"),
    "nmf": function("nmf"),
    "pca_raw": pca_raw,
    "nmf_raw": nmf_raw,
    "mae": ours("mae"),
    "scmae": scmae,
    "random_encoder": untrained(models.ContrastiveSC),
}

#: rows whose largest coefficient is the cluster, as in the paper, instead of K-means
BY_LARGEST = ("nmf_raw",)

#: rows that are run only when they are asked for by name: they take ten minutes, or need another data set
ON_DEMAND: dict[str, Embed] = {"scvi": scvi} | {
    f"nmf_from_{name}": nmf_from(name) for name in ("pbmc_zheng_facs", "pbmc_donorA_mudan")
}
