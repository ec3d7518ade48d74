"""Dimensions that can be read: an embedding rotated to sparse axes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from sc_ssl._checks import check_count, check_finite
from sc_ssl._keys import rotation_keys
from sc_ssl._logging import logged_once
from sc_ssl.data import check_anndata

from ._record import check_free, record, write

if TYPE_CHECKING:
    from collections.abc import Sequence

#: relative change of the criterion at which the rotation is found
TOL = 1e-8


@logged_once()
def interpretable(
    adata: AnnData,
    use_rep: str = "X_masksc",
    *,
    explained: str | None = None,
    max_iter: int = 500,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Rotate an embedding so that each dimension belongs to few cells (varimax): neighbours stay, axes get a meaning.

    Distances between cells are those of the embedding, as it is only turned, and the rotation is written with it:
    ``adata.obsm["X_masksc_varimax"] @ adata.uns["masksc_varimax"]["rotation"].T`` is the embedding again. Dimensions are in
    the order of their variance, and point to where their values are skewed to.

    Parameters
    ----------
    adata
        Cells with an embedding. Only ``obsm`` and ``uns`` are written.
    use_rep
        Key of the embedding in ``obsm``, of any method.
    explained
        Name of the dimensions: an explanation of the embedding by :func:`sc_ssl.tl.explain` with ``groupby`` and
        ``programs``, its method or key. Each dimension takes the top programme of the group whose mean is farthest along it.
    max_iter
        Largest number of iterations, at least 1.
    key_added
        Name of the result in both ``obsm`` and ``uns``.
    copy
        Write to a copy and return it.

    Returns
    -------
    ``None``, or the copy. Sets the following fields, ``<method>`` being ``masksc`` for ``X_masksc``:

    ``adata.obsm['X_<method>_varimax' | key_added]`` : (n_obs, d) float32
        The rotated embedding.
    ``adata.uns['<method>_varimax' | key_added]`` : dict
        ``rotation`` (d, d), orthogonal; ``sparsity`` before and after, the mean excess kurtosis of the dimensions; ``params``,
        ``versions``, ``seconds``; with ``explained`` ``names``, a text for each dimension.

    Raises
    ------
    KeyError
        No such embedding, or no such explanation with programmes.
    ValueError
        An embedding with values that are not finite.

    Notes
    -----
    Varimax maximises the variance of the squared entries of each dimension over cells (Kaiser 1958), here of the embedding
    less its mean, by iterated singular value decompositions. The embedding's origin stays where it is.

    References
    ----------
    Kaiser 1958. The varimax criterion for analytic rotation in factor analysis. Psychometrika 23:187. Rohe & Zeng 2023.
    Vintage factor analysis with varimax performs statistical inference. J. R. Stat. Soc. B 85:1037.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> sc_ssl.tl.embed(adata, "pca_cosine")
    >>> sc_ssl.tl.interpretable(adata, "X_pca_cosine")
    >>> adata.obsm["X_pca_cosine_varimax"].shape
    (700, 20)
    """
    start = time.perf_counter()
    check_anndata(adata)
    check_count("max_iter", max_iter)
    if use_rep not in adata.obsm:
        raise KeyError(f"{use_rep!r} is not in adata.obsm, which has {', '.join(adata.obsm) or 'none'}.")
    obsm_key, uns_key = rotation_keys(use_rep, key_added)
    check_free(adata, [("obsm", obsm_key)], uns_key)
    z_nd = np.asarray(adata.obsm[use_rep], dtype=np.float64)
    check_finite(z_nd, f"obsm[{use_rep!r}]")
    programs = None if explained is None else _explanation(adata, explained)
    centred_nd = z_nd - z_nd.mean(axis=0)
    rotation_dd = _ordered(centred_nd, varimax(centred_nd, max_iter=max_iter))
    rotated_nd = z_nd @ rotation_dd
    done: dict[str, Any] = {"rotation": rotation_dd}
    done["sparsity"] = np.array([_kurtosis(centred_nd), _kurtosis(centred_nd @ rotation_dd)])
    if programs is not None:
        done["names"] = np.array(_names(adata, rotated_nd, *programs), dtype=object)
    params = {"use_rep": use_rep, "explained": explained, "max_iter": max_iter, "key_added": key_added}
    done = record(None, params) | done | {"seconds": time.perf_counter() - start}
    return write(adata, {("obsm", obsm_key): rotated_nd.astype(np.float32)}, uns_key, done, copy=copy)


def varimax(x_nd: np.ndarray, *, max_iter: int = 500) -> np.ndarray:
    """The rotation R (d, d) for which the squared entries of each column of X R vary most."""
    n, d = x_nd.shape
    rotation_dd, last = np.eye(d), 0.0
    for _ in range(max_iter):
        y_nd = x_nd @ rotation_dd
        # the gradient of the criterion, and the rotation that is nearest to it
        gradient_dd = x_nd.T @ (y_nd**3 - y_nd * (y_nd**2).mean(axis=0))
        u, s, vt = np.linalg.svd(gradient_dd)
        rotation_dd, total = u @ vt, float(s.sum())
        if total < last * (1 + TOL):
            break
        last = total
    return rotation_dd


def _ordered(x_nd: np.ndarray, rotation_dd: np.ndarray) -> np.ndarray:
    """The same rotation with dimensions by falling variance, each pointing to where its values are skewed to."""
    y_nd = x_nd @ rotation_dd
    order = np.argsort(-y_nd.var(axis=0), kind="stable")
    sign = np.where((y_nd[:, order] ** 3).sum(axis=0) < 0, -1.0, 1.0)
    return rotation_dd[:, order] * sign


def _kurtosis(x_nd: np.ndarray) -> float:
    """Mean excess kurtosis of the dimensions that vary: 0 of a normal distribution, high where few cells have large values."""
    variance_d = x_nd.var(axis=0)
    kept = variance_d > 1e-12
    return float(((x_nd[:, kept] ** 4).mean(axis=0) / variance_d[kept] ** 2 - 3).mean()) if kept.any() else 0.0


def _explanation(adata: AnnData, key: str) -> tuple[str, pd.DataFrame]:
    """The column of groups and the programmes of an explanation."""
    for name in (f"{key}_explained", key):
        entry = adata.uns.get(name)
        if isinstance(entry, dict) and "programs" in entry and "groupby" in entry["params"]:
            return str(entry["params"]["groupby"]), entry["programs"]
    raise KeyError(
        f"uns has no explanation {key!r} of groups with programmes; call sc_ssl.tl.explain(adata, …, groupby=…, programs=…) first."
    )


def _names(adata: AnnData, rotated_nd: np.ndarray, groupby: str, programs: pd.DataFrame) -> Sequence[str]:
    """The top programme of the group whose mean lies farthest along each dimension, in standard deviations."""
    group_n = adata.obs[groupby].astype(str).to_numpy()
    groups = np.unique(group_n)
    mean_kd = np.stack([rotated_nd[group_n == group].mean(axis=0) for group in groups])
    scaled_kd = (mean_kd - rotated_nd.mean(axis=0)) / np.maximum(rotated_nd.std(axis=0), 1e-12)
    best = programs.drop_duplicates("group").set_index(programs.drop_duplicates("group")["group"].astype(str))[
        "program"
    ]
    return [
        f"{groups[k]}: {best[groups[k]]}" if groups[k] in best else str(groups[k]) for k in scaled_kd.argmax(axis=0)
    ]
