"""What a tool leaves in an AnnData: the embedding, and beside it what was done."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from sc_ssl._keys import cluster_keys, embedding_keys
from sc_ssl.models import SSLModel

#: packages whose versions are kept beside a result
RECORDED_VERSIONS = ("sc_ssl", "scvi-tools", "torch", "anndata", "scanpy", "scikit-learn", "scipy", "numpy")


def record(genes: Sequence[str] | None, params: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """What was done, and from which genes if from genes, in types that h5ad and zarr can hold."""
    done = {"params": storable(params), "versions": {name: metadata.version(name) for name in RECORDED_VERSIONS}}
    if genes is not None:
        done["genes"] = {"names": np.asarray(genes, dtype=object), "hash": names_hash(genes)}
    return done | more


def names_hash(genes: Sequence[str]) -> str:
    """SHA-256 of the names of genes in their order."""
    return hashlib.sha256("\n".join(genes).encode()).hexdigest()


def curves(model: SSLModel) -> dict[str, np.ndarray]:
    """The loss curves of a model, term → a value an epoch."""
    return {term: frame[term].to_numpy(dtype=float) for term, frame in (model.history or {}).items()}


def storable(value: Any) -> Any:
    """Plain values; what has none, such as a callback, by its text; entries that are None are left out.

    h5ad has no lists of dictionaries or of lists, and no names with a slash: these are kept as JSON.
    """
    if isinstance(value, Mapping) and any("/" in str(name) for name in value):
        return json.dumps({str(name): storable(entry) for name, entry in value.items()}, default=str)
    if isinstance(value, Mapping):
        return {str(name): storable(entry) for name, entry in value.items() if entry is not None}
    if isinstance(value, list | tuple):
        entries = [storable(entry) for entry in value]
        return json.dumps(entries, default=str) if any(isinstance(e, list | Mapping) for e in entries) else entries
    if isinstance(value, SSLModel):  # whose text is printed by scvi-tools, and empty
        return type(value).__name__
    return value if isinstance(value, bool | int | float | str | np.ndarray | np.generic) else str(value)


def write(
    adata: AnnData,
    method: str,
    embedding: np.ndarray,
    done: dict[str, Any],
    *,
    key_added: str | None,
    copy: bool,
    proba_nk: np.ndarray | None = None,
) -> AnnData | None:
    """Write the result into the cells, or into a copy that is returned; last, so that errors leave them unchanged."""
    obsm_key, uns_key = embedding_keys(method, key_added)
    adata = destination(adata, copy=copy)
    adata.obsm[obsm_key] = embedding
    adata.uns[uns_key] = done
    if proba_nk is not None:
        cluster_key, proba_key = cluster_keys(method, key_added)
        names = [str(k) for k in range(proba_nk.shape[1])]
        adata.obs[cluster_key] = pd.Categorical.from_codes(proba_nk.argmax(axis=1), names)
        adata.obsm[proba_key] = proba_nk
    return adata if copy else None


def check_free(written: AnnData, key: str, measured: str | None) -> None:
    """An error when a prediction would take the place of what was measured, or of anything but an earlier prediction."""
    if key not in written.obsm:
        return
    done = written.uns.get(key)
    ours = isinstance(done, Mapping) and "params" in done and isinstance(written.obsm[key], pd.DataFrame)
    if key == measured or not ours:
        raise ValueError(
            f"obsm[{key!r}] holds something else than an earlier prediction; name the result with key_added=."
        )


def destination(adata: AnnData, *, copy: bool) -> AnnData:
    """What a tool writes into: the cells, or a copy of them in memory."""
    if not copy:
        return adata
    return adata.to_memory() if adata.isbacked else adata.copy()
