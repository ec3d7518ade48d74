"""scRNA: NMF with transfer from a source data set (Mieth et al. 2019)."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from sc_ssl._keys import embedding_keys
from sc_ssl._logging import logged_once
from sc_ssl.data import Cells, Counts, evenly_spread, locate_genes, obs_categories, variable_genes
from sc_ssl.train import seeded

from ._cells import INPUTS, find
from ._nmf import Scale, coefficients, mixed_programs, programs, relative_error, unit_rows
from ._record import check_free, record, write
from ._transfer import MAX_JUDGED, THETAS, alignments, transferability

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: programmes are learned on at most so many cells, evenly spread; every cell is then expressed in them
MAX_LEARNED = 20_000
#: genes of a programme that are written by name
N_TOP = 50


@logged_once()
def nmf_transfer(
    adata: AnnData,
    source: AnnData | None = None,
    *,
    layer: str | None = None,
    batch_key: str | None = None,
    input: Literal["counts", "log1p"] = "counts",
    n_components: int = 15,
    theta: float | None = None,
    labels_key: str | None = None,
    n_top_genes: int | None = 2000,
    key_added: str | None = None,
    random_state: int | np.random.Generator | None = 0,
    copy: bool = False,
) -> AnnData | None:
    """Non-negative matrix factorisation, with the programmes of a source data set as a start where there is one.

    Programmes W (p, g) are learned on the source; the target's cells are expressed in them, Z₀ = argmin ‖X − Z W‖² with
    Z ≥ 0; the mixture θ Z₀ W + (1 − θ) X is factorised; and the target's cells are expressed in its programmes. At
    θ = 1 these are the source's, at θ = 0 the target's own. Without a source this is plain NMF.

    Parameters
    ----------
    adata
        The target: cells × genes with raw counts, in memory or backed. Only ``obsm``, ``varm`` and ``uns`` are written.
    source
        Cells × genes with raw counts in ``layers["counts"]`` or ``X``; not changed. Genes are matched by name.
    layer
        Layer of raw counts of ``adata``; ``None`` takes ``layers["counts"]`` if there, else ``X``, never ``raw``.
    batch_key
        Column of ``obs`` with the batch, without a source: genes that vary within batches are selected, and each gene is
        multiplied so that like cells of all batches have its mean (:func:`~sc_ssl.data.batch_statistics`).
    input
        ``"log1p"`` when log-normalised values are all there is; without a source.
    n_components
        Number of programmes p, at least 1; as many as cells or genes where there are fewer.
    theta
        Share of the source in the mixture, in [0, 1]; ``None`` chooses among 0, 0.1, …, 1 without labels.
    labels_key
        Column of ``source.obs`` with cell types: as many programmes start as the mean of a type.
    n_top_genes
        Most variable genes, with a source those that vary most in both; ``None`` takes all.
    key_added
        Name of the result in both ``obsm`` and ``uns``.
    random_state
        Seed, or a generator to draw it from; the caller's random state is left alone. ``None`` runs on the caller's
        state.
    copy
        Write to a copy and return it; of backed cells, a copy in memory.

    Returns
    -------
    ``None``, or the copy. Sets the following fields:

    ``adata.obsm['X_nmf' | key_added]`` : (n_obs, n_components) float32
        Coefficients ≥ 0 in programmes of length 1, each cell divided by its length; zeros for an empty cell.
    ``adata.varm['nmf_programs']`` : DataFrame, float32
        The weight of each gene in each programme, ``nmf_0``, ``nmf_1``, …; 0 for genes that were not selected. With
        ``key_added`` it takes the place of ``nmf`` in all names.
    ``adata.uns['nmf' | key_added]`` : dict
        ``params``, ``versions``, ``genes`` (names, hash), ``programs`` (n_components, n genes) float32, ``top_genes`` (the 50
        genes of the largest weight in each programme), ``error``
        (‖X − Z W‖² / ‖X‖²), ``seconds``; with a source ``theta``, ``transferability`` (score, p_value, error,
        own_error, permuted_error), and where θ was chosen ``alignment`` (theta, alignment).

    Raises
    ------
    ValueError
        Not raw counts; NaN, infinite or negative values; duplicated gene names; fewer than 10 cells; fewer genes in
        common than programmes; more types than programmes; ``theta`` outside [0, 1]; ``theta`` or ``labels_key``
        without a source, ``batch_key`` or ``input="log1p"`` with one.
    KeyError
        A layer or key that is not there.

    Notes
    -----
    Departures from the paper and the authors' code: counts are scaled to the median library size (with a source: over
    the genes that both measured), log1p-transformed, and divided by each gene's standard deviation with values capped
    at 10, in place of log2(x + 1) on all genes; source and target each by their own, since technologies differ in both.
    There are more programmes than types, and cells are not assigned to their largest one: cluster ``obsm['X_nmf']``.
    Z₀ enters the mixture as it is, not as the indicator of the largest coefficient. Z comes from coordinate descent
    (HALS) in place of multiplicative updates; the mixture's NMF starts at the source's programmes. No penalty on W
    and Z.

    θ has the largest kernel target alignment, as in the paper, but not with the clusters of the mixture, which do not
    depend on the target at θ = 1. A fifth of the target's counts, drawn at random, is held out; the alignment is that
    of the cells' coefficients with the held-out counts, by linear kernels. No n × n matrix of all cells is made: on
    more than 1,000 cells, evenly spread ones are taken for θ and the transferability.

    A source is no certain gain. K-means on a few dozen to a few hundred PBMC with a source of FACS-sorted PBMC was
    better than plain NMF, on stimulated PBMC, and on small parts of the source's own data set, it was worse.

    The transferability follows the paper: the error of the source's programmes on the target between that of the
    target's own (1) and that of the source's with permuted genes (0).

    ``n_components`` and ``n_top_genes`` have the best mean ARI of K-means over 15 data sets for development, real and
    thinned, among 10, 15, 20 and 2,000, 4,096.

    References
    ----------
    Mieth, Hockley, Görnitz et al. 2019. Using transfer learning from prior reference knowledge to improve the
    clustering of single-cell RNA-Seq data. Scientific Reports 9:20353.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> source, target = adata[:500].copy(), adata[500:].copy()
    >>> sc_ssl.tl.nmf_transfer(target, source, labels_key="cell_type")
    >>> target.obsm["X_nmf"].shape, target.uns["nmf"]["programs"].shape
    ((200, 15), (15, 765))
    >>> 0 <= target.uns["nmf"]["theta"] <= 1
    True
    """
    start = time.perf_counter()
    params = {"layer": layer, "n_components": n_components, "theta": theta, "labels_key": labels_key}
    params |= {"n_top_genes": n_top_genes, "key_added": key_added, "batch_key": batch_key, "input": input}
    _check_options(source, n_components, theta, labels_key)
    if source is not None and (batch_key is not None or input != "counts"):
        raise ValueError(
            "with a source the target is raw counts of one batch; leave out batch_key and input, or source."
        )
    obsm_key, uns_key = embedding_keys("nmf", key_added)
    varm_key = f"{uns_key}_programs"
    with seeded(random_state) as seed:
        counts = find(adata, layer, input, takes=INPUTS)
        check_free(adata, [("obsm", obsm_key), ("varm", varm_key)], uns_key)
        if source is None:
            genes = variable_genes(counts, n_top_genes, batch_key=batch_key)
            x_ng = _scaled(counts, genes, batch_key, log_input=input == "log1p")
            program_pg, more = programs(_spread(x_ng, MAX_LEARNED), n_components, seed=seed), {}
        else:
            type_n = _types(source, labels_key, n_components)
            genes, cells, origin = _in_common(counts, find(source, None, of="source"), n_components, n_top_genes)
            x_ng, program_pg, more = _transfer(cells, origin, n_components, theta, type_n, seed)
        cell_np = coefficients(x_ng, program_pg)
    params |= {"method": "nmf", "counts_from": counts.name, "random_state": seed}
    more |= {
        "top_genes": _top_genes(genes, program_pg, uns_key),
        "programs": program_pg,
        "error": relative_error(x_ng, cell_np, program_pg),
    }
    done = record(list(genes), params, **more, seconds=time.perf_counter() - start)
    values = {("obsm", obsm_key): unit_rows(cell_np), ("varm", varm_key): _weights(adata, genes, program_pg, uns_key)}
    return write(adata, values, uns_key, done, copy=copy)


def _weights(adata: AnnData, genes: pd.Index, program_pg: np.ndarray, name: str) -> pd.DataFrame:
    """Genes of the data × programmes by name, 0 for genes that were not among the most variable."""
    values = np.zeros((adata.n_vars, len(program_pg)), np.float32)
    values[locate_genes(adata.var_names, genes)] = program_pg.T
    return pd.DataFrame(values, index=adata.var_names, columns=[f"{name}_{p}" for p in range(len(program_pg))])


def _top_genes(genes: pd.Index, program_pg: np.ndarray, name: str) -> dict[str, np.ndarray]:
    """The genes of the largest weight in each programme, by name, the largest first."""
    order_pg = np.argsort(-program_pg, axis=1, kind="stable")[:, :N_TOP]
    return {f"{name}_{p}": genes.to_numpy(dtype=object)[order_g] for p, order_g in enumerate(order_pg)}


def _scaled(counts: Counts, genes: pd.Index, batch_key: str | None, *, log_input: bool) -> csr_matrix:
    """Scaled log-expression of the cells, those of all batches brought to one mean."""
    batch = None if batch_key is None else pd.Categorical(obs_categories(counts, batch_key))
    cells = _read(counts, genes, None if batch is None else batch.codes.astype(np.int64))
    scale = Scale.of(cells, batches=() if batch is None else tuple(batch.categories), log_input=log_input)
    return scale(cells.matrix, cells.library_size, cells.batch)


def _transfer(
    cells: Cells, origin: Cells, n_components: int, theta: float | None, type_n: np.ndarray | None, seed: int | None
) -> tuple[csr_matrix, np.ndarray, dict[str, Any]]:
    """The target's scaled cells, the programmes of the mixture, and what is written about them."""
    rng = np.random.default_rng(np.random.randint(2**31))  # follows the seed, or without one the caller's state
    source_scale, scale = Scale.of(origin), Scale.of(cells)
    x_ng = scale(cells.matrix, cells.library_size)
    types = None if type_n is None else _spread(type_n, MAX_LEARNED)
    source_x_ng = _spread(source_scale(origin.matrix, origin.library_size), MAX_LEARNED)
    source_pg = programs(source_x_ng, n_components, seed=seed, type_n=types)
    more: dict[str, Any] = {
        "transferability": transferability(_spread(x_ng, MAX_JUDGED), source_pg, seed=seed, rng=rng)
    }
    if theta is None:
        some = _spread(cells.matrix, MAX_JUDGED), _spread(cells.library_size, MAX_JUDGED)
        alignment = alignments(*some, scale, source_pg, rng)
        theta = THETAS[int(alignment.argmax())]
        more["alignment"] = {"theta": np.array(THETAS), "alignment": alignment}
    more["theta"] = theta
    return x_ng, mixed_programs(_spread(x_ng, MAX_LEARNED), source_pg, theta), more


def _in_common(
    target: Counts, source: Counts, n_components: int, n_top_genes: int | None
) -> tuple[pd.Index, Cells, Cells]:
    """The genes that both measured and that vary most in both, and the cells of each over them."""
    shared = target.var_names[locate_genes(source.var_names, target.var_names, log=True) >= 0]
    if len(shared) < n_components:
        raise ValueError(
            f"target and source need at least n_components={n_components} genes in common, found {len(shared)}; the "
            f"target's are named like {target.var_names[0]!r}, the source's like {source.var_names[0]!r}. Use the same "
            "kind of gene names (symbols or Ensembl ids) and species."
        )
    both = [_over(counts, shared) for counts in (target, source)]
    matrix = sparse.vstack([counts.matrix for counts in both], format="csr")
    name_n = np.repeat(["target", "source"], [counts.n_obs for counts in both])
    obs = pd.DataFrame({"data set": name_n}, index=np.arange(len(name_n)).astype(str))
    library_size = np.concatenate([counts.library_size for counts in both])
    joined = Counts(matrix, "X", "counts", library_size, obs, shared)
    genes = variable_genes(joined, n_top_genes, batch_key="data set")
    return genes, _read(both[0], genes), _read(both[1], genes)


def _over(counts: Counts, genes: pd.Index) -> Counts:
    """Counts over these genes alone: a library size over genes that only one data set measured would not compare."""
    kept = counts.take_genes(genes)
    total = np.asarray(kept.matrix.sum(axis=1, dtype=np.float64)).ravel()
    return replace(kept, library_size=total)


def _read(counts: Counts, genes: pd.Index, batch_n: np.ndarray | None = None) -> Cells:
    return Cells.from_counts(counts.take_genes(genes), list(genes), library_size=counts.library_size, batch=batch_n)


def _types(source: AnnData, labels_key: str | None, n_components: int) -> np.ndarray | None:
    """Codes of the source's cell types, (n,)."""
    if labels_key is None:
        return None
    code_n, names = pd.factorize(obs_categories(source, labels_key))
    if len(names) > n_components:
        raise ValueError(
            f"obs[{labels_key!r}] of the source names {len(names)} types, more than n_components={n_components}; raise "
            "n_components, or leave out labels_key."
        )
    return code_n


def _spread(rows: Any, at_most: int) -> Any:
    return rows[evenly_spread(rows.shape[0], at_most)]


def _check_options(source: AnnData | None, n_components: int, theta: float | None, labels_key: str | None) -> None:
    if n_components < 1:
        raise ValueError(f"n_components is at least 1, found {n_components}.")
    if source is None and (theta is not None or labels_key is not None):
        raise ValueError("theta and labels_key need a source; pass source= too, or leave them out.")
    if theta is not None and not 0 <= theta <= 1:
        raise ValueError(f"theta is the source's share, in [0, 1], found {theta}.")
