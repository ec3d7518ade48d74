"""Embeddings that several subjects score: methods of this package, untrained networks, PCA and scVI."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from sc_ssl import tl
from sc_ssl.data import Cells, gene_weights, library_sizes, principal_components, to_csr
from sc_ssl.metrics import pca_space
from sc_ssl.models import METHODS, SSLModel
from sc_ssl.pp import select_genes
from sc_ssl.train import seeded

#: raw counts and a seed → an embedding (n, d)
Embed = Callable[[AnnData, int], np.ndarray]
QUIET: dict[str, Any] = {"enable_progress_bar": False}
#: genes that models take, as `tl.embed`
N_TOP_GENES = 4096
#: column of `obs` with the library size over all genes
LIBRARY_SIZE = "library_size"


def ours(method: str, **options: Any) -> Embed:
    """A method of this package at its defaults, or with other options of :func:`sc_ssl.tl.embed`."""
    trains = {"train_kwargs": QUIET} if method in METHODS else {}

    def embed(adata: AnnData, seed: int) -> np.ndarray:
        tl.embed(adata, method, random_state=seed, key_added="benchmark", **{**trains, **options})
        return adata.obsm["benchmark"]

    return embed


def untrained(method: str, **options: Any) -> Embed:
    """The network of a method before training."""

    def embed(adata: AnnData, seed: int) -> np.ndarray:
        return model_of(method, adata, seed, trained=False, **options).get_latent_representation()

    return embed


def pca_standard(adata: AnnData, seed: int) -> np.ndarray:
    """2,000 most variable genes, z-scored and clipped at 10, 50 components; the same for every seed."""
    return pca_space(adata.X)


def pca_weighed(adata: AnnData, seed: int) -> np.ndarray:
    """20 components of 4,096 genes weighed as in MaskSC: what the weights alone are worth; the same for every seed."""
    genes = list(select_genes(adata, N_TOP_GENES))
    # a key that is not there: the library size is that of all genes
    cells = Cells.from_anndata(AnnData(adata.X, var=adata.var[[]]), genes, library_size_key=LIBRARY_SIZE)
    return principal_components(cells, n_comps=20, weight_g=gene_weights(cells))


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


@contextmanager
def built(method: str, adata: AnnData, seed: int, **options: Any) -> Iterator[SSLModel]:
    """A model of this package on 4,096 genes as `tl.embed` builds it, not trained yet; the block's random numbers follow the seed."""
    genes, counts = select_genes(adata, N_TOP_GENES), to_csr(adata.X)
    obs = pd.DataFrame({LIBRARY_SIZE: library_sizes(adata, counts)}, index=adata.obs_names)
    cells = AnnData(counts, obs=obs, var=adata.var[[]])[:, genes].copy()
    model_class = METHODS[method]
    with seeded(seed), registered(model_class, cells, library_size_key=LIBRARY_SIZE) as build:
        yield build(**options)


@contextmanager
def registered(model_class: type[SSLModel], cells: AnnData, **setup: Any) -> Iterator[Callable[..., SSLModel]]:
    """The constructor of a model of these cells; scvi-tools, which otherwise keeps all cells of a process, forgets them."""
    model_class.setup_anndata(cells, **setup)
    made: list[SSLModel] = []

    def build(**options: Any) -> SSLModel:
        made.append(model_class(cells, **options))
        return made[-1]

    try:
        yield build
    finally:
        for model in made:
            model.deregister_manager(cells)


def model_of(method: str, adata: AnnData, seed: int, *, trained: bool = True, **options: Any) -> SSLModel:
    """A model of these cells, their labels unseen; trained or not, it starts from the same weights."""
    with built(method, adata, seed, **options) as model:
        if trained:
            model.train(**QUIET)
        model.is_trained_ = True
        return model
