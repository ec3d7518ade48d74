"""From expression to drug response, in one call."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from sc_ssl import models
from sc_ssl._checks import check_share
from sc_ssl._keys import prediction_key
from sc_ssl._logging import logged_once
from sc_ssl._names import as_names
from sc_ssl.data import check_cells
from sc_ssl.models import DrugResponse, SSLModel
from sc_ssl.models.base import check_training
from sc_ssl.train import seeded

from ._cells import MIN_CELLS, cells_of_encoder, find, private_cells, registered, take_cells
from ._record import check_free, curves, record, write

#: columns of a long table of responses, in this order
LONG = ("cell", "drug", "response")


@logged_once()
def drug_response(
    adata: AnnData,
    response: str | pd.DataFrame,
    drugs: Mapping[str, str] | Mapping[str, Sequence[float]] | pd.Series | pd.DataFrame,
    *,
    input: Literal["counts", "log1p", "scaled"] = "counts",
    encoder: str | Path | SSLModel | None = None,
    layer: str | None = None,
    key_added: str | None = None,
    max_epochs: int | None = None,
    linear_share: float = 0.5,
    random_state: int | np.random.Generator | None = 0,
    accelerator: str = "auto",
    train_kwargs: Mapping[str, Any] | None = None,
    copy: bool = False,
    **model_kwargs: Any,
) -> AnnData | None:
    """Learn from cells, or cell lines, with measured responses to predict those of all cells to all drugs.

    Cells without a response are those to predict, and drugs without one too: what is known of these is their structure.
    Needs rdkit for SMILES: ``pip install "sc_ssl[drug]"``.

    Parameters
    ----------
    adata
        Cells, or cell lines, × genes. All genes are read: of many, take those that vary (:func:`sc_ssl.pp.select_genes`).
    response
        Name in ``obsm`` of the responses, a DataFrame of cells × drugs, for example ln IC50, NaN where not measured; or
        a long table with the columns ``cell``, ``drug`` and ``response``.
    drugs
        Each drug's SMILES by its name; or a table of features, drugs × features.
    input
        What the matrix holds: ``"counts"``, ``"log1p"``, or ``"scaled"`` for z-scores, as bulk expression often is.
    encoder
        The model's encoder: a trained model or the folder of a saved one, whose genes take their mean where
        the cells lack them; ``None`` trains from scratch.
    layer
        Layer of the expression; ``None`` takes ``layers["counts"]`` if there, else ``X``.
    key_added
        Name of the result in ``obsm`` and ``uns``, by default ``<response>_predicted`` or ``response_predicted``.
    max_epochs
        Times through the cells.
    linear_share
        Share of the prediction for cells without any response that comes from a ridge regression of each drug on the
        genes, in [0, 1]; the rest, and all of it for cells with responses, comes from the network.
    random_state
        Seed, or a generator to draw it from; the caller's random state is left alone.
    accelerator
        ``"auto"`` (a GPU when there is one), ``"cpu"``, ``"gpu"``, ….
    train_kwargs
        More arguments of ``train``.
    copy
        Write to a copy and return it.
    **model_kwargs
        Arguments of :class:`sc_ssl.models.DrugResponse`, for example ``drug_encoder="gin"`` or ``freeze_encoder``.

    Returns
    -------
    ``None``, or the copy. Sets the following fields:

    ``adata.obsm['<response>_predicted' | key_added]`` : DataFrame, (n_obs, n_drugs)
        The prediction for every cell and drug, in the units of the responses; for those that were measured too, which
        were trained on.
    ``adata.uns['<response>_predicted' | key_added]`` : dict
        ``params``, ``versions``, ``genes``, ``history``, ``seconds``.

    Raises
    ------
    ImportError
        SMILES without rdkit.
    KeyError
        A key, column or layer that is not there.
    ValueError
        Responses of cells that are not in ``adata``, or to drugs that are not in ``drugs``; a SMILES that rdkit rejects;
        a matrix that does not hold what ``input`` names; an encoder of other input, or over half of whose genes the cells
        lack; a result that would overwrite anything but an earlier one.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> import numpy as np, pandas as pd
    >>> response = pd.DataFrame(np.log1p(adata.X[:, :2].toarray()), adata.obs_names, ["first", "second"])
    >>> response.iloc[600:] = np.nan  # cells to predict
    >>> adata.obsm["response"] = response
    >>> features = pd.DataFrame(np.eye(3), ["first", "second", "untested"])  # or SMILES: {"gefitinib": "COC1=…"}
    >>> sc_ssl.tl.drug_response(adata, "response", features)
    >>> adata.obsm["response_predicted"].shape
    (700, 3)
    """
    start = time.perf_counter()
    check_training({"max_epochs": max_epochs, **(train_kwargs or {})})
    check_cells(adata, min_cells=MIN_CELLS)
    check_share("linear_share", linear_share)
    # before anything is trained, also of the drugs without responses
    known = DrugResponse.read_drugs(drugs, model_kwargs.get("drug_encoder", "fingerprint"))
    name, table = _responses(response, adata, known)
    measured = table.notna().any(axis=1).to_numpy()
    if measured.sum() < MIN_CELLS:
        raise ValueError(f"at least {MIN_CELLS} cells with a response are needed, found {measured.sum()}.")
    key = prediction_key(name, key_added)
    check_free(adata, [("obsm", key)], key)
    counts = find(adata, layer, input, takes=DrugResponse.inputs)
    options = {"accelerator": accelerator, **(train_kwargs or {})}
    with seeded(random_state):
        trained = models.load(encoder) if isinstance(encoder, str | Path) else encoder
        if trained is None:
            cells = private_cells(counts, adata.var_names)
        else:
            cells = cells_of_encoder(counts, trained)
        training_cells = take_cells(cells, measured)
        training_cells.obsm[name] = table[measured]
        with registered(DrugResponse, training_cells, input):
            arguments = {"drugs": known, "response_key": name, "encoder": trained, **model_kwargs}
            model = DrugResponse(training_cells, **arguments)
            model.train(max_epochs, **options)
        prediction = _predict_all(model, cells, measured, known, linear_share)
    params = {
        "drugs": known,
        "input": input,
        "encoder": encoder,
        "layer": layer,
        "key_added": key_added,
        "max_epochs": max_epochs,
        "linear_share": linear_share,
        "random_state": random_state,
        "accelerator": accelerator,
        "train_kwargs": train_kwargs,
        "model_kwargs": model_kwargs,
    }
    done = record(model.var_names, params, history=curves(model), seconds=time.perf_counter() - start)
    return write(adata, {("obsm", key): prediction}, key, done, copy=copy)


def _responses(response: str | pd.DataFrame, adata: AnnData, drugs: Mapping[str, Any]) -> tuple[str, pd.DataFrame]:
    """What the responses are called, and the table of them, cells × the drugs that have any."""
    if isinstance(response, str):
        name, table = response, DrugResponse.read_responses(adata, drugs, response, min_cells=0)
    else:
        name, table = LONG[-1], _wide(response, adata, drugs)
    return name, table.loc[:, table.notna().any()]


def _predict_all(
    model: DrugResponse, cells: AnnData, measured: np.ndarray, drugs: Mapping[str, Any], linear_share: float
) -> pd.DataFrame:
    """Responses of all cells in their order: a share of those of cells without any comes from the linear regression."""
    of_known = _predict(model, cells, np.flatnonzero(measured), drugs, 0.0)
    of_new = _predict(model, cells, np.flatnonzero(~measured), drugs, linear_share)
    place_n = np.argsort(np.argsort(~measured, kind="stable"))  # of each cell in the table, measured ones first
    return pd.concat([of_known, of_new]).iloc[place_n]


def _predict(
    model: DrugResponse, cells: AnnData, index: np.ndarray, drugs: Mapping[str, Any], linear_share: float
) -> pd.DataFrame:
    """Responses of these cells to all drugs, whether the model was trained on them or not."""
    prediction = model.get_prediction(cells, None, index, linear_share=linear_share)
    others = {drug: drugs[drug] for drug in drugs if drug not in prediction}
    if others:
        of_others = model.get_prediction(cells, others, index, linear_share=linear_share)
        prediction = pd.concat([prediction, of_others], axis=1)
    return prediction[list(drugs)]


def _wide(response: pd.DataFrame, adata: AnnData, drugs: Mapping[str, Any]) -> pd.DataFrame:
    """A long table as cells × drugs, NaN where not measured."""
    missing = [column for column in LONG if column not in response]
    if missing:
        raise KeyError(f"response has no column {missing[0]!r}; it needs {', '.join(LONG)} and has {list(response)}.")
    response = response.assign(cell=as_names(response["cell"]), drug=as_names(response["drug"]))
    for column, known, where in (
        ("cell", pd.Index(as_names(adata.obs_names)), "adata.obs_names"),
        ("drug", pd.Index(drugs), "drugs"),
    ):
        unknown = response[column][~response[column].isin(known)].unique()
        if len(unknown):
            raise ValueError(
                f"response names {len(unknown)} of {response[column].nunique()} {column}s that are not in {where}, for "
                f"example {unknown[0]!r}, where {where} has {known[0]!r}; leave their rows out or use the same names."
            )
    if not pd.api.types.is_numeric_dtype(response["response"]):
        raise ValueError(f"the column 'response' holds numbers, found {response['response'].dtype}; convert it.")
    repeated = response.duplicated(["cell", "drug"])
    if repeated.any():
        cell, drug = response[["cell", "drug"]].to_numpy()[repeated.to_numpy().argmax()]
        raise ValueError(f"response has more than one row of cell {cell!r} and drug {drug!r}; average them first.")
    columns = [drug for drug in drugs if drug in set(response["drug"])]
    wide = response.pivot(index="cell", columns="drug", values="response")
    return wide.reindex(index=as_names(adata.obs_names), columns=columns).set_axis(adata.obs_names).astype(np.float32)
