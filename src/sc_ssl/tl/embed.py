"""From raw counts to an embedding, in one call."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from sc_ssl import _compat, models
from sc_ssl._keys import METHODS, SIZE_FACTOR, cluster_keys, embedding_keys
from sc_ssl._logging import logger
from sc_ssl.data import (
    Source,
    check_cells,
    check_kind,
    check_values,
    find_counts,
    in_order,
    iter_chunks,
    library_size,
    obs_categories,
)
from sc_ssl.models import ClusteringModel, SSLModel, check_free
from sc_ssl.pp import select_genes
from sc_ssl.train import seeded

if TYPE_CHECKING:
    from collections.abc import Sequence

#: packages whose versions are kept beside a result
RECORDED_VERSIONS = ("sc_ssl", "scvi-tools", "torch", "anndata", "scanpy", "numpy")
#: fewer cells than this cannot be told apart by any method here
MIN_CELLS = 10


def embed(
    adata: AnnData,
    method: str | Path | SSLModel = "masksc",
    *,
    layer: str | None = None,
    batch_key: str | None = None,
    n_top_genes: int | None = 4096,
    input: Literal["counts", "log1p"] = "counts",
    key_added: str | None = None,
    max_epochs: int | None = None,
    random_state: int | np.random.Generator | None = 0,
    accelerator: str = "auto",
    train_kwargs: Mapping[str, Any] | None = None,
    save_model: str | Path | None = None,
    copy: bool = False,
    **model_kwargs: Any,
) -> AnnData | None:
    """Embed cells from raw counts: find the counts, pick genes, train, write.

    ``sc.pp.neighbors(adata, use_rep="X_masksc")`` goes on from there. With a trained model, or the folder of a saved
    one, nothing is trained and genes are matched by name.

    Parameters
    ----------
    adata
        Cells × genes with raw counts, in memory or backed. Only ``obsm`` and ``uns`` are written, and clusters to
        ``obs``.
    method
        ``"masksc"``, ``"contrastive_sc"``, ``"scdeepcluster"`` or ``"sczidesk"``; a trained model; or the folder of a
        saved one.
    layer
        Layer of raw counts; ``None`` takes ``layers["counts"]`` if there, else ``X``, never ``raw``.
    batch_key
        Column of ``obs`` with the batch: genes that vary within batches are picked, and z-scored within each. With a
        trained model, the column that holds the batch here; by default the one it was trained with.
    n_top_genes
        Most variable genes to train on; ``None`` takes all.
    input
        ``"log1p"`` when log-normalised values are all there is.
    key_added
        Name of the result in both ``obsm`` and ``uns``.
    max_epochs
        Times through the cells; by default the method's own.
    random_state
        Seed, or a generator to draw it from: the same seed gives the same embedding, bit for bit on one CPU; the
        caller's random state is left alone. ``None`` runs on the caller's state.
    accelerator
        ``"auto"`` (a GPU when there is one), ``"cpu"``, ``"gpu"``, ….
    train_kwargs
        More arguments of the model's ``train``, for example ``{"enable_progress_bar": False}``.
    save_model
        Folder to save the trained model to, for later ``method=folder``.
    copy
        Write to a copy and return it; of backed cells, a copy in memory.
    **model_kwargs
        Arguments of the model's constructor.

    Returns
    -------
    ``None``, or the copy. Sets the following fields, ``<method>`` being ``masksc`` for example:

    ``adata.obsm['X_<method>' | key_added]`` : (n_obs, n_latent) float32
        The embedding, in the order of the cells.
    ``adata.uns['<method>' | key_added]`` : dict
        ``params``, ``versions``, ``genes`` (names, hash), ``history`` (a loss curve per term), ``seconds``.

    A method that clusters also sets, ``<method>`` being ``key_added`` where that is given:

    ``adata.obs['<method>_cluster']`` : categorical of str
        The most probable cluster of each cell, ``"0"`` … ``"k − 1"``.
    ``adata.obsm['<method>_cluster_proba']`` : (n_obs, k) float32
        The probability of each cluster; rows sum to 1.

    Raises
    ------
    ValueError
        Not raw counts; NaN, infinite or negative values; duplicated gene names; too few cells or genes; too few genes
        in common with a trained model.
    KeyError
        A layer or key that is not there.
    """
    start = time.perf_counter()
    params = {name: value for name, value in locals().items() if name not in ("adata", "start", "copy")}
    with seeded(random_state) as seed:
        trained = None if isinstance(method, str) and method in METHODS else _trained_model(method, model_kwargs)
        input = trained.setup_arguments["input"] if trained else input
        check_cells(adata, min_cells=1 if trained else MIN_CELLS)
        source = _find(adata, layer, input)
        if save_model is not None:
            check_free(save_model)
        if trained is not None:
            model, embedding = trained, _embed_query(trained, adata, source, batch_key)
        else:
            genes = select_genes(adata, n_top_genes, layer=layer, batch_key=batch_key, input=input)
            cells = _private_cells(adata, source, genes, batch_key=batch_key)
            model_class = getattr(models, METHODS[method])
            try:
                model_class.setup_anndata(cells, batch_key=batch_key, size_factor_key=SIZE_FACTOR, input=input)
                model = model_class(cells, **model_kwargs)
                model.train(max_epochs, accelerator=accelerator, **(train_kwargs or {}))
                embedding = model.get_latent_representation()
            finally:
                _compat.release(model_class, cells)
    name = {class_name: name for name, class_name in METHODS.items()}[type(model).__name__]
    obsm_key, uns_key = embedding_keys(name, key_added)
    params |= {"method": name, "counts_from": source.name, "random_state": seed}
    record = _record(model, params) | {"seconds": time.perf_counter() - start}
    if save_model is not None:
        model.save(save_model)
    if copy:
        adata = adata.to_memory() if adata.isbacked else adata.copy()
    # last, so that an error on the way leaves the cells as they were
    adata.obsm[obsm_key] = embedding
    adata.uns[uns_key] = record
    if isinstance(model, ClusteringModel):
        _write_clusters(adata, model.assign(embedding), *cluster_keys(name, key_added))
    return adata if copy else None


def _trained_model(method: str | Path | SSLModel, model_kwargs: dict[str, Any]) -> SSLModel:
    """The model that the user gave, or the one in the folder."""
    if not isinstance(method, SSLModel) and not (isinstance(method, str | Path) and Path(method).is_dir()):
        raise ValueError(
            f"method is one of {', '.join(map(repr, METHODS))}, a trained model, or the folder of a saved one; found "
            f"{method!r}."
        )
    if model_kwargs:
        raise TypeError(f"a trained model takes no constructor arguments, found {', '.join(model_kwargs)}.")
    return method if isinstance(method, SSLModel) else models.load(method)


def _find(adata: AnnData, layer: str | None, input: Literal["counts", "log1p"]) -> Source:
    """The counts, said aloud, and refused unless they are what they should be."""
    source = find_counts(adata, layer)
    check_kind(source, input)
    check_values(source, adata)
    logger.info("Taking %s from adata.%s.", "raw counts" if input == "counts" else "log-normalised values", source.name)
    return source


def _private_cells(
    adata: AnnData,
    source: Source,
    genes: Sequence[str],
    *,
    batch_key: str | None,
    batch_name: str | None = None,
) -> AnnData:
    """A light AnnData of our own with these genes, so that scvi-tools marks and keeps nothing of the user's."""
    obs = pd.DataFrame({SIZE_FACTOR: library_size(adata, source.matrix)}, index=adata.obs_names)
    n_empty = int((obs[SIZE_FACTOR] <= 0).sum())
    if n_empty:
        logger.warning("%d cells have no counts; they are embedded but carry no information.", n_empty)
    if batch_key is not None:
        obs[batch_name or batch_key] = pd.Categorical(obs_categories(adata, batch_key))
    column_g = adata.var_names.get_indexer(pd.Index(genes))
    matrix = sparse.vstack([in_order(chunk, column_g) for _, chunk in iter_chunks(source.matrix)], format="csr")
    return AnnData(matrix, obs=obs, var=pd.DataFrame(index=pd.Index(genes)))


def _embed_query(model: SSLModel, adata: AnnData, source: Source, batch_key: str | None) -> np.ndarray:
    """Embed new cells by a trained model, whatever the names under which it knew its layer and keys."""
    setup = model.setup_arguments
    if batch_key is not None and setup["batch_key"] is None:
        raise ValueError("the model was trained without batches; leave out batch_key, or train one with it.")
    genes = [gene for gene in model.var_names if gene in adata.var_names] or list(adata.var_names[:1])
    cells = _private_cells(
        adata,
        source,
        genes,
        batch_key=batch_key or setup["batch_key"],
        batch_name=setup["batch_key"],
    )
    if setup["size_factor_key"] is not None:
        cells.obs[setup["size_factor_key"]] = cells.obs[SIZE_FACTOR]
    if setup["layer"] is not None:
        cells.layers[setup["layer"]] = cells.X
    return model.get_latent_representation(cells)


def _write_clusters(adata: AnnData, proba_nk: np.ndarray, obs_key: str, obsm_key: str) -> None:
    names = [str(k) for k in range(proba_nk.shape[1])]
    adata.obs[obs_key] = pd.Categorical.from_codes(proba_nk.argmax(axis=1), names)
    adata.obsm[obsm_key] = proba_nk


def _record(model: SSLModel, params: dict[str, Any]) -> dict[str, Any]:
    """What was done, in types that h5ad and zarr can hold."""
    genes = model.var_names
    return {
        "params": _storable(params),
        "versions": {name: metadata.version(name) for name in RECORDED_VERSIONS},
        "genes": {
            "names": np.asarray(genes, dtype=object),
            "hash": hashlib.sha256("\n".join(genes).encode()).hexdigest(),
        },
        "history": {name: frame[name].to_numpy(dtype=float) for name, frame in (model.history or {}).items()},
    }


def _storable(value: Any) -> Any:
    """Plain values; what has none, such as a callback, by its text; entries that are None are left out."""
    if isinstance(value, Mapping):
        return {str(name): _storable(entry) for name, entry in value.items() if entry is not None}
    if isinstance(value, list | tuple):
        return [_storable(entry) for entry in value]
    return value if isinstance(value, bool | int | float | str | np.ndarray | np.generic) else str(value)
