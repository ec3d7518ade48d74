"""From raw counts to an embedding, in one call."""

from __future__ import annotations

import inspect
import shutil
import time
from collections import ChainMap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from anndata import AnnData

from sc_ssl import models
from sc_ssl._keys import cluster_keys, embedding_keys
from sc_ssl._logging import logged_once
from sc_ssl.data import MIN_CELLS, Counts, check_writable, variable_genes
from sc_ssl.models import CellClassifier, SSLModel
from sc_ssl.models.base import check_training
from sc_ssl.models.clustering import ClusteringModel
from sc_ssl.train import seeded

from ._cells import INPUTS, find, named_fields, private_cells, read_by, registered, take_fields
from ._model_folder import check_folder, describe_call, train
from ._record import Field, check_free, clusters, curves, record, write, write_store
from .nmf_transfer import nmf_transfer
from .pca_cosine import pca_cosine

#: ``method=`` → class of the model, or function
METHODS: Mapping[str, type[SSLModel] | Callable[..., AnnData | None]] = ChainMap(
    {"nmf": nmf_transfer, "pca_cosine": pca_cosine}, models.METHODS
)
#: what the functions call the dimension of the embedding
N_LATENT = {"nmf": "n_components", "pca_cosine": "n_comps"}
#: arguments that the functions, which train nothing, need not look at
TRAINING = ("max_epochs", "train_kwargs", "accelerator")
#: most variable genes that models are trained on
N_TOP_GENES = 4096


@logged_once()
def embed(
    adata: AnnData,
    method: str | Path | SSLModel = "masksc",
    *,
    layer: str | None = None,
    batch_key: str | None = None,
    n_top_genes: int | Literal["auto"] | None = "auto",
    input: Literal["counts", "log1p"] = "counts",
    key_added: str | None = None,
    max_epochs: int | None = None,
    random_state: int | np.random.Generator | None = 0,
    accelerator: str = "auto",
    train_kwargs: Mapping[str, Any] | None = None,
    save_model: str | Path | None = None,
    pretrained: bool | Literal["human", "mouse"] = False,
    out: str | Path | None = None,
    copy: bool = False,
    **model_kwargs: Any,
) -> AnnData | None:
    """Embed cells from raw counts: read the counts, select genes, train, write.

    ``sc.pp.neighbors(adata, use_rep="X_masksc")`` goes on from there. With a trained model, or the folder of a saved
    one, nothing is trained and genes are matched by name.

    Parameters
    ----------
    adata
        Cells × genes with raw counts, in memory or on disk: opened with ``backed="r"``, by
        ``anndata.experimental.read_lazy`` or ``anndata.io.sparse_dataset``, several files as an ``AnnCollection`` (with
        ``out``), or a view of these. Only ``obsm`` and ``uns`` are written, and clusters to ``obs``.
    method
        ``"masksc"``, ``"contrastive_sc"``, ``"scpretrain"``, ``"mae"``, ``"byol"``, ``"barlow_twins"``,
        ``"vicreg"``, ``"simclr"``, ``"celllm"``, ``"scdeepcluster"`` or ``"sczidesk"``; a trained model; or the folder
        of a saved one. Or ``"pca_cosine"`` or ``"nmf"``: :func:`sc_ssl.tl.pca_cosine` and :func:`sc_ssl.tl.nmf_transfer`
        train nothing and run on the CPU, whatever ``max_epochs``, ``train_kwargs`` and ``accelerator`` are.
    layer
        Layer of raw counts; ``None`` takes ``layers["counts"]`` if there, else ``X``, never ``raw``.
    batch_key
        Column of ``obs`` with the batch: genes that vary within batches are selected, and batches, also of unequal
        composition, are integrated: what sets like cells of different batches apart is taken off. With a trained model,
        the column that holds the batch here; by default the one it was trained with.
    n_top_genes
        Most variable genes to train on, by default 4,096 (for ``"nmf"`` 2,000); ``None`` takes all.
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
        Folder to save the trained model to, for later ``method=folder``. Until then it holds checkpoints: when training
        was interrupted, by Ctrl-C, SIGTERM or ``kill -9``, the same call goes on from them. The same call once more replaces
        the model that it saved.
    pretrained
        Take the encoder that comes with the package (for ``method="scpretrain"``) instead of training one: human symbols
        or Ensembl ids, or mouse symbols, in seconds. ``"human"`` or ``"mouse"`` names the species where the names of the
        genes do not show it. :func:`sc_ssl.models.pretrained` gives the model itself.
    out
        Folder of a zarr store to write the result to, a chunk at a time, in place of ``adata``, when even the embedding
        is large; ``anndata.read_zarr`` reads it. For models that do not cluster.
    copy
        Write to a copy and return it; of backed cells, a copy in memory.
    **model_kwargs
        Arguments of the model's constructor, or of the function. Every method takes ``n_latent``, the dimension of the
        embedding.

    Returns
    -------
    ``None``, or the copy. Sets the following fields, ``<method>`` being ``masksc`` for example:

    ``adata.obsm['X_<method>' | key_added]`` : (n_obs, n_latent) float32
        The embedding, in the order of the cells.
    ``adata.uns['<method>' | key_added]`` : dict
        ``params``, ``versions``, ``genes`` (names, hash), ``history`` (a loss curve per term), ``seconds``.

    ``"nmf"`` also sets ``varm['nmf_programs']``, see :func:`sc_ssl.tl.nmf_transfer`.
    A method that clusters also sets, ``<method>`` being ``key_added`` where that is given:

    ``adata.obs['<method>_cluster']`` : categorical of str
        The most probable cluster of each cell, ``"0"`` … ``"k − 1"``.
    ``adata.obsm['<method>_cluster_proba']`` : (n_obs, k) float32
        The probability of each cluster; rows sum to 1.

    Raises
    ------
    ValueError
        Not raw counts; NaN, infinite or negative values; duplicated gene names; too few cells or genes; too few genes
        in common with a trained model; a field is there already that no earlier call has written.
    KeyError
        A layer or key that is not there.
    FileExistsError
        ``save_model`` is there already, and neither an interrupted training nor the model of the same call in it.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> sc_ssl.tl.embed(adata)
    >>> adata.obsm["X_masksc"].shape
    (700, 70)

    With batches, and another method:

    >>> adata.obs["donor"] = ["first", "second"] * 350
    >>> sc_ssl.tl.embed(adata, "mae", batch_key="donor", key_added="X_integrated")
    """
    start = time.perf_counter()
    params = {"layer": layer, "batch_key": batch_key, "n_top_genes": n_top_genes, "input": input}
    params |= {"key_added": key_added, "max_epochs": max_epochs, "random_state": random_state}
    params |= {"accelerator": accelerator, "train_kwargs": train_kwargs, "save_model": save_model}
    params |= {"pretrained": pretrained, "out": out}
    how = METHODS.get(method) if isinstance(method, str) else None
    if how is not None and not isinstance(how, type):
        return _call(how, method, adata, params | {"copy": copy}, model_kwargs)
    if how is not None:
        check_training({"max_epochs": max_epochs, **(train_kwargs or {})}, how.train)
    params |= {"n_top_genes": N_TOP_GENES if n_top_genes == "auto" else n_top_genes, "model_kwargs": model_kwargs}
    with seeded(random_state) as seed:
        model = _trained_model(method, adata, pretrained, model_kwargs)
        trains = model is None
        params["input"] = input if trains else model.setup_arguments["input"]
        name = name_of(how if trains else type(model))
        _check_output(out, how if trains else type(model), copy=copy)
        counts = find(
            adata, layer, params["input"], min_cells=MIN_CELLS if trains else 1, takes=INPUTS if trains else ()
        )
        obsm_key, uns_key = _check_free(None if out else adata, name, how if trains else type(model), key_added)
        array = None if out is None else Path(f"{out}.unfinished", "obsm", obsm_key)
        check_folder(save_model, use="method", trains=trains)
        if trains:
            model, embedding = _train(how, adata, counts, params, array)
        else:
            embedding = _represented(model, read_by(model, counts, batch_key), array)
            for unused in ("n_top_genes", "max_epochs", "train_kwargs"):  # what only a training looks at
                del params[unused]
    params |= {"method": name, "counts_from": counts.name, "random_state": seed}
    done = record(model.var_names, params, history=curves(model), seconds=time.perf_counter() - start)
    if out is not None:
        return write_store(Path(out), counts.obs_names, obsm_key, uns_key, done)
    values: dict[Field, Any] = {("obsm", obsm_key): embedding}
    if isinstance(model, ClusteringModel):
        values |= clusters(model.assign(embedding), name, key_added)
    return write(adata, values, uns_key, done, copy=copy)


def name_of(model_class: type[SSLModel]) -> str:
    """The method of a model, or of a subclass of one."""
    names = {known: name for name, known in models.METHODS.items()}
    return next(names[base] for base in model_class.__mro__ if base in names)


def _check_output(out: str | Path | None, model_class: type[SSLModel], *, copy: bool) -> None:
    """An error, before any work, when the result cannot be written."""
    if out is None:
        return
    if copy or issubclass(model_class, ClusteringModel):
        raise ValueError("out= writes to a store of its own: leave out copy, and take a method that does not cluster.")
    check_writable(out)


def _check_free(
    adata: AnnData | None, name: str, model_class: type[SSLModel], key_added: str | None
) -> tuple[str, str]:
    """The keys of the result in ``obsm`` and ``uns``, where nothing of others may be."""
    obsm_key, uns_key = embedding_keys(name, key_added)
    fields: list[Field] = [("obsm", obsm_key)]
    if issubclass(model_class, ClusteringModel):
        cluster_key, proba_key = cluster_keys(name, key_added)
        fields += [("obs", cluster_key), ("obsm", proba_key)]
    if adata is not None:
        check_free(adata, fields, uns_key)
    return obsm_key, uns_key


def _call(
    function: Callable[..., AnnData | None],
    name: str,
    adata: AnnData,
    params: Mapping[str, Any],
    model_kwargs: Mapping[str, Any],
) -> AnnData | None:
    """Hand over to a function what is not at its default here; refuse what the function has no argument for."""
    default = {name: parameter.default for name, parameter in inspect.signature(embed).parameters.items()}
    given = {name: value for name, value in params.items() if name not in TRAINING and value != default[name]}
    given |= {N_LATENT[name] if argument == "n_latent" else argument: value for argument, value in model_kwargs.items()}
    taken = list(inspect.signature(function).parameters)[1:]
    unknown = [argument for argument in given if argument not in taken]
    if unknown:
        raise TypeError(f"method={name!r} has no argument {', '.join(unknown)}; it has {', '.join(taken)}.")
    return function(adata, **given)


def _train(
    model_class: type[SSLModel], adata: AnnData, counts: Counts, params: Mapping[str, Any], out: Path | None
) -> tuple[SSLModel, np.ndarray]:
    """Train a model on the most variable genes, or finish a training that was interrupted, and embed its cells."""
    model_kwargs = params["model_kwargs"]
    fields = named_fields(adata, model_class.reads, model_kwargs)
    genes = variable_genes(counts, params["n_top_genes"], batch_key=params["batch_key"])
    cells = private_cells(counts, genes, batch_key=params["batch_key"])
    take_fields(adata, cells, fields)
    options = {name: params[name] for name in ("max_epochs", "accelerator")} | dict(params["train_kwargs"] or {})
    call = describe_call(model_kwargs, params["random_state"], options)
    with registered(model_class, cells, counts.kind, params["batch_key"]):
        model = model_class(cells, **model_kwargs)
        train(model, params["save_model"], call, use="method", **options)
        return model, _represented(model, None, out)


def _trained_model(
    method: str | Path | SSLModel, adata: AnnData, pretrained: bool | str, model_kwargs: dict[str, Any]
) -> SSLModel | None:
    """The model that the user gave, the one in the folder or the one shipped; ``None`` when one is to be trained."""
    by_name = isinstance(method, str) and method in models.METHODS
    if by_name and not pretrained:
        return None
    if (
        not by_name
        and not isinstance(method, SSLModel)
        and not (isinstance(method, str | Path) and Path(method).expanduser().is_dir())
    ):
        raise ValueError(
            f"method is one of {', '.join(map(repr, METHODS))}, a trained model, or the folder of a "
            f"saved one; found {method!r}."
        )
    if isinstance(method, CellClassifier):
        raise ValueError("a CellClassifier names types; use its predict(), or embed with the model that it came from.")
    if model_kwargs:
        raise TypeError(f"a trained model takes no constructor arguments, found {', '.join(model_kwargs)}.")
    if by_name:
        species = pretrained if isinstance(pretrained, str) else None
        return models.pretrained(adata.var_names, method, species=species)
    return method if isinstance(method, SSLModel) else models.load(method)


def _represented(model: SSLModel, cells: AnnData | None, out: Path | None) -> np.ndarray:
    """The embedding, in memory or in the store that is being written; what an earlier call left there is removed."""
    if out is not None:
        shutil.rmtree(out.parent.parent, ignore_errors=True)
        out.parent.mkdir(parents=True)
    return model.get_latent_representation(cells, out=out)
