"""From RNA to proteins, in one call."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from sc_ssl import models
from sc_ssl._checks import check_count
from sc_ssl._keys import prediction_key
from sc_ssl._logging import logged_once, logger
from sc_ssl.data import check_cells, obsm_values, variable_genes
from sc_ssl.models import METHODS, ModalityRegressor, SSLModel
from sc_ssl.models.base import check_training
from sc_ssl.train import seeded

from ._cells import MIN_CELLS, cells_of_encoder, find, private_cells, registered, take_cells
from ._record import check_free, curves, destination, record, write
from .embed import N_TOP_GENES


@logged_once()
def predict_modality(
    adata: AnnData,
    protein_key: str = "protein",
    *,
    encoder: str | Path | SSLModel | None = "mae",
    rna_key: str = "rna",
    layer: str | None = None,
    n_top_genes: int | None = N_TOP_GENES,
    key_added: str | None = None,
    max_epochs: int | None = None,
    random_state: int | np.random.Generator | None = 0,
    accelerator: str = "auto",
    train_kwargs: Mapping[str, Any] | None = None,
    encoder_kwargs: Mapping[str, Any] | None = None,
    copy: bool = False,
    **model_kwargs: Any,
) -> AnnData | None:
    """Learn from cells with RNA and proteins to predict the proteins of all cells from their RNA.

    Cells whose proteins are all NaN are those to predict: an encoder that is trained here sees their RNA too, the
    regressor does not see them.

    Parameters
    ----------
    adata
        Cells × genes with raw counts, and proteins in ``obsm``; or a MuData with a modality of each.
    protein_key
        Name of the proteins in ``obsm``, (n_obs, f), best log-normalised or CLR; of a MuData, the modality whose ``X``
        holds them.
    encoder
        The regressor's encoder: the name of a method, which is then trained first, without proteins; a trained
        model, or the folder of a saved one, whose genes take their mean where the cells lack them; ``None`` trains the
        network from scratch.
    rna_key
        Of a MuData, the modality that holds the RNA.
    layer
        Layer of raw counts; ``None`` takes ``layers["counts"]`` if there, else ``X``.
    n_top_genes
        Most variable genes to train on; ``None`` takes all. A trained encoder has its own.
    key_added
        Name of the result in ``obsm`` and ``uns``, by default ``<protein_key>_predicted``.
    max_epochs
        Times through the cells, of the regressor; those of the encoder are in ``train_kwargs``.
    random_state
        Seed, or a generator to draw it from; the caller's random state is left alone.
    accelerator
        ``"auto"`` (a GPU when there is one), ``"cpu"``, ``"gpu"``, ….
    train_kwargs
        More arguments of ``train``, of the encoder and of the regressor.
    encoder_kwargs
        Arguments of the encoder's constructor.
    copy
        Write to a copy and return it.
    **model_kwargs
        Arguments of :class:`sc_ssl.models.ModalityRegressor`, for example ``freeze_encoder``.

    Returns
    -------
    ``None``, or the copy. Sets the following fields, of a MuData in its RNA modality:

    ``adata.obsm['<protein_key>_predicted' | key_added]`` : DataFrame, (n_obs, f)
        The prediction for every cell; for those with proteins too, which were trained on.
    ``adata.uns['<protein_key>_predicted' | key_added]`` : dict
        ``params``, ``versions``, ``genes``, ``history``, ``seconds``.

    Raises
    ------
    KeyError
        A key, layer or modality that is not there.
    ValueError
        Not raw counts; proteins that are infinite or not there; modalities of other cells; an encoder of other input, or
        over half of whose genes the cells lack; ``encoder_kwargs`` where none is trained; a result that would overwrite
        anything but an earlier one.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> import numpy as np, pandas as pd
    >>> markers = ["CD3D", "LYZ"]  # stand in for proteins
    >>> values = pd.DataFrame(np.log1p(adata[:, markers].X.toarray()), adata.obs_names, markers)
    >>> values.iloc[600:] = np.nan  # cells to predict
    >>> adata.obsm["protein"] = values
    >>> sc_ssl.tl.predict_modality(adata, "protein", freeze_encoder=True)
    >>> adata.obsm["protein_predicted"].shape
    (700, 2)
    """
    start = time.perf_counter()
    check_training({"max_epochs": max_epochs, **(train_kwargs or {})})
    rna, proteins = _modalities(adata, protein_key, rna_key)
    check_cells(rna, min_cells=MIN_CELLS)
    counts = find(rna, layer)
    with_proteins = _measured(proteins, protein_key)
    key = prediction_key(protein_key, key_added)
    check_free(rna, [("obsm", key)], key)
    options = {"accelerator": accelerator, **(train_kwargs or {})}
    if max_epochs is not None:
        check_count("max_epochs", max_epochs)
    with seeded(random_state):
        trained = _find_encoder(encoder, encoder_kwargs)
        if trained is None:
            cells = private_cells(counts, variable_genes(counts, n_top_genes))
        else:
            cells = cells_of_encoder(counts, trained)
        training_cells = take_cells(cells, with_proteins)
        training_cells.obsm[protein_key] = proteins[with_proteins]
        with registered(ModalityRegressor, training_cells):
            regressor = partial(ModalityRegressor, training_cells, protein_key=protein_key, **model_kwargs)
            if isinstance(encoder, str) and trained is None:
                trained = _train_encoder(encoder, cells, regressor, options, **(encoder_kwargs or {}))
            model = regressor(encoder=trained)
            model.train(**options | ({} if max_epochs is None else {"max_epochs": max_epochs}))
        prediction = model.get_prediction(cells)
    params = {
        "protein_key": protein_key,
        "encoder": encoder,
        "rna_key": rna_key,
        "layer": layer,
        "n_top_genes": n_top_genes,
        "key_added": key_added,
        "max_epochs": max_epochs,
        "random_state": random_state,
        "accelerator": accelerator,
        "train_kwargs": train_kwargs,
        "encoder_kwargs": encoder_kwargs,
        "model_kwargs": model_kwargs,
    }
    written = destination(adata, copy=copy)
    result = written.mod[rna_key] if hasattr(written, "mod") else written
    done = record(model.var_names, params, history=curves(model), seconds=time.perf_counter() - start)
    write(result, {("obsm", key): prediction}, key, done)
    return written if copy else None


def _train_encoder(
    method: str,
    cells: AnnData,
    regressor: Callable[..., ModalityRegressor],
    options: Mapping[str, Any],
    **encoder_kwargs: Any,
) -> SSLModel:
    """An encoder of all cells, trained without proteins; what a regressor on it would refuse is refused before."""
    with registered(METHODS[method], cells):
        encoder = METHODS[method](cells, **encoder_kwargs)
        with seeded(0):
            regressor(encoder=encoder.specification())
        encoder.train(**options)
    return encoder


def _modalities(adata: Any, protein_key: str, rna_key: str) -> tuple[AnnData, pd.DataFrame]:
    """The RNA and the proteins of the same cells in the same order."""
    if not isinstance(getattr(adata, "mod", None), Mapping):
        check_cells(adata)
        return adata, obsm_values(adata, protein_key)
    for key in (rna_key, protein_key):
        if key not in adata.mod:
            raise KeyError(f"{key!r} is no modality of the MuData, which has {', '.join(adata.mod)}.")
    rna, other = adata.mod[rna_key], adata.mod[protein_key]
    if not rna.obs_names.isin(other.obs_names).any():
        raise ValueError(
            f"modalities {rna_key!r} and {protein_key!r} have no cell in common, found for example {rna.obs_names[0]!r} "
            f"and {other.obs_names[0]!r}."
        )
    if not other.obs_names.is_unique:
        raise ValueError(f"the cells of modality {protein_key!r} must have unique names.")
    light = AnnData(obs=other.obs[[]], obsm={protein_key: other.X})
    values = obsm_values(light, protein_key, list(other.var_names))
    return rna, values.reindex(rna.obs_names)  # cells without proteins are to be predicted


def _measured(proteins: pd.DataFrame, protein_key: str) -> np.ndarray:
    """Which cells have proteins, (n,); an error when too few have."""
    with_proteins = proteins.notna().any(axis=1).to_numpy()
    if with_proteins.sum() < MIN_CELLS:
        raise ValueError(f"at least {MIN_CELLS} cells with {protein_key!r} are needed, found {with_proteins.sum()}.")
    if not with_proteins.all():
        logger.info("%d of %d cells have proteins to learn from.", with_proteins.sum(), len(proteins))
    return with_proteins


def _find_encoder(encoder: str | Path | SSLModel | None, encoder_kwargs: Mapping[str, Any] | None) -> SSLModel | None:
    """A trained model, or ``None`` where one has to be trained, with these arguments, or none is wanted."""
    trained = _given_encoder(encoder)
    if encoder_kwargs and (trained is not None or encoder is None):
        raise ValueError(
            f"encoder_kwargs {', '.join(map(repr, encoder_kwargs))} are of an encoder that is trained here; leave them out, "
            "or name its method with encoder=."
        )
    return trained


def _given_encoder(encoder: str | Path | SSLModel | None) -> SSLModel | None:
    if encoder is None or isinstance(encoder, SSLModel) or encoder in METHODS:
        return encoder if isinstance(encoder, SSLModel) else None
    if isinstance(encoder, str | Path) and Path(encoder).expanduser().is_dir():
        return models.load(encoder)
    raise ValueError(
        f"encoder is one of {', '.join(map(repr, METHODS))}, a trained model, the folder of a saved one, or None; found "
        f"{encoder!r}."
    )
