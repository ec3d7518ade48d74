"""Which genes and programmes make a cell's place, a cluster or a batch effect."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np
import pandas as pd
from anndata import AnnData

from sc_ssl import models
from sc_ssl._checks import check_choice, check_count
from sc_ssl._keys import explain_keys
from sc_ssl._logging import logged_once
from sc_ssl.data import Cells, check_anndata, find_programs, locate_genes, log_expression, obs_categories
from sc_ssl.models import METHODS, CellClassifier, SSLModel
from sc_ssl.train import seeded, tracked

from ._attribution import Baseline, Method, OfComponents, OfModel, OfPrograms
from ._cells import find, read_by
from ._contrasts import Contrast, contrasts
from ._program_scores import program_scores
from ._record import check_free, is_record, record, write
from .embed import name_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sc_ssl.data import Counts

    from ._attribution import Explainer

#: what scanpy adds to means before their ratio
SMALL_MEAN = 1e-9


class Source(NamedTuple):
    """What is explained: a model, or the record of a method without one."""

    name: str
    model: SSLModel | None
    record: Mapping[str, Any] | None
    #: where the embedding lies that a record is of
    key: str | None


@logged_once()
def explain(
    adata: AnnData,
    model_or_key: SSLModel | str | Path,
    *,
    groupby: str | None = None,
    dims: Sequence[int] | None = None,
    batch_key: str | None = None,
    programs: str | Path | pd.DataFrame | Mapping[str, Sequence[str]] | None = None,
    method: Method = "integrated_gradients",
    baseline: Baseline = "rest",
    n_cells: int = 50,
    n_steps: int = 16,
    layer: str | None = None,
    key_added: str | None = None,
    random_state: int | np.random.Generator | None = 0,
    copy: bool = False,
) -> AnnData | None:
    r"""Signed contributions of genes to the clusters, dimensions and batch effect of an embedding.

    A cluster is explained along the line between its mean and that of all other cells: what each gene adds to how far its
    cells lie from the baseline. A dimension is explained by its upper tenth of the cells against its lower tenth, a batch by
    its cells against those of the other batches (with ``groupby``, of the same group). Contributions of all genes sum to the
    difference in the embedding (completeness).

    Parameters
    ----------
    adata
        Cells × genes with the raw counts that were embedded. Only ``varm`` and ``uns`` are written.
    model_or_key
        A trained model of any method of :func:`sc_ssl.tl.embed`; the folder of a saved one; or the key of an embedding that
        :func:`~sc_ssl.tl.embed` wrote: by ``save_model=`` (whose folder is read), ``"pca_cosine"`` or ``"nmf"``.
    groupby
        Column of ``obs`` with clusters or labels, each of two cells at least.
    dims
        Dimensions of the embedding, from 0; all of them when neither ``groupby`` nor ``batch_key`` is given.
    batch_key
        Column of ``obs`` with batches, or conditions, to be explained too.
    programs
        Gene programmes to score: a GMT file, a dictionary ``{name: genes}``, a table with the columns ``source`` and
        ``target``, a key of ``varm`` or ``uns``; or ``"nmf"``, the top genes of the programmes that NMF wrote.
    method
        ``"integrated_gradients"``, whose contributions sum to the difference, or ``"gradient"``, that at the cell times its
        difference from the baseline: ``n_steps`` times as fast, and only near by. Where the embedding is linear both are
        exact.
    baseline
        What cells are compared with: ``"rest"``, for each a random cell of the others; ``"mean"``, the mean expressed cell;
        ``"zero"``, a cell without counts, with which a gene that the cells do not express has no contribution.
    n_cells
        Cells of each group that are attributed, drawn at random, at least 1.
    n_steps
        Points on the path from the baseline (Gauss-Legendre), at least 1; for cells whose sum is off by over 1 % of the
        difference up to 16 times as many.
    layer
        Layer of raw counts, as in :func:`~sc_ssl.tl.embed`; by default the one the key was embedded from.
    key_added
        Name of the result in both ``varm`` and ``uns``.
    random_state
        Seed of the choice of cells, or a generator to draw it from; the caller's random state is left alone.
    copy
        Write to a copy and return it; of backed cells, a copy in memory.

    Returns
    -------
    ``None``, or the copy. Sets the following fields, ``<method>`` being ``masksc`` for example:

    ``adata.varm['<method>_contributions' | key_added]`` : DataFrame
        Genes × groups; NaN for genes that the embedding does not read.
    ``adata.uns['<method>_explained' | key_added]`` : dict
        ``genes``, a tidy table with the columns of :func:`scanpy.get.rank_genes_groups_df` where they exist: ``kind``,
        ``group``, ``names``, ``scores`` (contribution, in units of the embedding; by it the rows of a group are sorted),
        ``logfoldchanges`` (log2 of the ratio of mean expression), ``pct_nz_group``, ``pct_nz_reference``. A gene adds to a
        group by being absent, too: its contribution is positive and its fold change negative. ``summary``, a row a group:
        number of cells, ``difference`` in the embedding, ``explained`` (sum of contributions), ``error`` (what a cell's
        contributions miss of its difference, relative to it; means over cells without sign). With programmes ``programs``: ``group``, ``program``,
        ``n_genes``, ``scores``, ``pvals``, ``pvals_adj``, ``genes``; genes count as positive that
        are expressed more.

    Raises
    ------
    ValueError
        A group of one cell, or of all; dimensions that are not there; a key without its model; a model of other genes;
        programmes without genes in common; a model whose embedding is stochastic, or reads expression in bins.
    KeyError
        A layer or key that is not there.
    ImportError
        Captum is missing, which attributes models: ``pip install "sc_ssl[explain]"``.

    Notes
    -----
    With f the embedding, v the direction (length 1), x a cell's normalised expression and b its baseline, gene g contributes

    .. math:: (x_g - b_g) \int_0^1 \partial_g (v^\top f)(b + \alpha (x - b)) \, d\alpha,

    averaged over cells. ``pca_cosine`` and ``nmf`` are explained before each cell is divided by its length, which moves no
    cell to another direction. There the contributions are exact, and captum is not needed: components are linear in z-scores,
    coefficients of NMF in the programmes that a cell uses. All other methods take the integral at ``n_steps`` points; a
    linear ``scpretrain`` is exact at any number. Completeness to 1 % is promised with the baselines ``"rest"`` and
    ``"zero"`` for all but ``celllm``, in which a gene appears and vanishes as a token. The mean expressed cell is no cell: its
    z-scores are 0, where layers that divide by a length have a jump. ``summary`` holds the error of each group.

    References
    ----------
    Sundararajan, Taly & Yan 2017. Axiomatic attribution for deep networks. ICML. Erion et al. 2021. Improving performance of
    deep learning models with axiomatic attribution priors and expected gradients. Nature Machine Intelligence 3:620.
    Kokhlikyan et al. 2020. Captum. arXiv 2009.07896.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> sc_ssl.tl.embed(adata, "pca_cosine")
    >>> sc_ssl.tl.explain(adata, "pca_cosine", groupby="cell_type")
    >>> genes = adata.uns["pca_cosine_explained"]["genes"]
    >>> list(genes.columns)[:4]
    ['kind', 'group', 'names', 'scores']
    """
    start = time.perf_counter()
    _check_options(method, baseline, n_cells, n_steps)
    check_anndata(adata)
    source = _source(adata, model_or_key)
    params: dict[str, Any] = {"groupby": groupby, "dims": dims, "batch_key": batch_key, "attribution": method}
    params |= {"baseline": baseline, "n_cells": n_cells, "n_steps": n_steps, "layer": layer, "method": source.name}
    varm_key, uns_key = explain_keys(source.name, key_added)
    check_free(adata, [("varm", varm_key)], uns_key)
    given = None if programs is None else _programs(programs, adata)
    with seeded(random_state) as seed:
        counts = _counts(adata, source, layer)
        for key in (groupby, batch_key):
            if key is not None:
                obs_categories(counts, key)
        explainer = _explainer(counts, source, baseline, method, n_steps, adata)
        asked = contrasts(counts, explainer.z_nd, groupby=groupby, dims=dims, batch_key=batch_key)
        rng = np.random.default_rng(np.random.randint(2**31))
        contribution_kg, summary = _attribute(explainer, asked, n_cells, rng)
        genes = pd.Index(explainer.genes)
        measured = locate_genes(counts.var_names, genes) >= 0
        contribution_kg, genes = contribution_kg[:, measured], genes[measured]
        table, mean_g = _gene_table(counts, genes, asked, contribution_kg)
        more = {"genes": table, "summary": summary}
        if given is not None:
            more["programs"] = _score_programs(table, asked, genes, given, mean_g, rng)
    done = record(None, params | {"random_state": seed, "counts_from": counts.name}) | more
    values = {("varm", varm_key): _of_all_genes(adata, genes, asked, contribution_kg)}
    return write(adata, values, uns_key, done | {"seconds": time.perf_counter() - start}, copy=copy)


def _check_options(method: str, baseline: str, n_cells: int, n_steps: int) -> None:
    check_choice("method", method, get_args(Method))
    check_choice("baseline", baseline, get_args(Baseline))
    check_count("n_cells", n_cells)
    check_count("n_steps", n_steps)


def _source(adata: AnnData, model_or_key: Any) -> Source:
    """The model that is meant, or the record of a method without one."""
    if isinstance(model_or_key, SSLModel):
        return _of_model(model_or_key)
    if not isinstance(model_or_key, str | Path):
        raise TypeError(
            "model_or_key is a trained model, the folder of a saved one, or the key of an embedding, found "
            f"{type(model_or_key).__name__}."
        )
    keys = [str(model_or_key), str(model_or_key).removeprefix("X_")]
    key = next((key for key in keys if is_record(adata.uns.get(key))), None)
    if key is None and Path(model_or_key).is_dir():
        return _of_model(models.load(model_or_key))
    if key is None:
        known = [name for name, entry in adata.uns.items() if is_record(entry) and "genes" in entry]
        raise KeyError(
            f"{str(model_or_key)!r} is neither the folder of a saved model nor an embedding that sc_ssl.tl.embed wrote; "
            f"adata.uns has {', '.join(map(repr, known)) or 'none'}. Call sc_ssl.tl.embed(adata, …, save_model=folder) first."
        )
    params = adata.uns[key]["params"]
    name = str(params.get("method"))
    if name in ("nmf", "pca_cosine"):
        return Source(name, None, adata.uns[key], f"X_{key}" if f"X_{key}" in adata.obsm else key)
    folder = params.get("save_model")
    if name not in METHODS or folder is None or not Path(folder).is_dir():
        where = (
            "was kept without its model" if folder is None else f"has its model in {str(folder)!r}, which is not there"
        )
        raise ValueError(
            f"the embedding {key!r} {where}; genes are found through the model: embed once more with "
            "sc_ssl.tl.embed(adata, …, save_model=folder), or pass the model itself."
        )
    return _of_model(models.load(folder))


def _of_model(model: SSLModel) -> Source:
    if isinstance(model, CellClassifier) or not isinstance(model, tuple(METHODS.values())):
        raise ValueError(
            f"a {type(model).__name__} predicts from an embedding; explain the model that it came from, one of "
            f"{', '.join(map(repr, METHODS))}."
        )
    return Source(name_of(type(model)), model, None, None)


def _counts(adata: AnnData, source: Source, layer: str | None) -> Counts:
    """The counts that were embedded."""
    if source.model is not None:
        return find(adata, layer, source.model.setup_arguments["input"], min_cells=2)
    params = source.record["params"]
    return find(adata, layer or params.get("layer"), params.get("input", "counts"), min_cells=2)


def _explainer(
    counts: Counts, source: Source, baseline: Baseline, method: Method, n_steps: int, adata: AnnData
) -> Explainer:
    if source.model is not None:
        return OfModel(source.model, read_by(source.model, counts, None), baseline, method, n_steps)
    done = source.record
    params, genes = done["params"], [str(name) for name in done["genes"]["names"]]
    cells, batches = _embedded_cells(counts, genes, params.get("batch_key"))
    options = {"batches": batches, "log_input": params.get("input") == "log1p"}
    if source.name == "nmf":
        explainer: Explainer = OfPrograms(cells, genes, baseline, program_pg=np.asarray(done["programs"]), **options)
    else:
        explainer = OfComponents(cells, genes, baseline, n_comps=int(params["n_comps"]), **options)
    _check_same(explainer.z_nd, adata, source)
    return explainer


def _embedded_cells(counts: Counts, genes: Sequence[str], batch_key: str | None) -> tuple[Cells, tuple[str, ...]]:
    """The cells as a method without a model read them."""
    batch = None if batch_key is None else pd.Categorical(obs_categories(counts, batch_key))
    cells = Cells.from_counts(
        counts.take_genes(genes),
        genes,
        library_size=counts.library_size,
        batch=None if batch is None else batch.codes.astype(np.int64),
    )
    return cells, () if batch is None else tuple(batch.categories)


def _check_same(z_nd: np.ndarray, adata: AnnData, source: Source) -> None:
    """An error when these are not the cells of the embedding: its statistics would be others."""
    if source.key not in adata.obsm:
        raise KeyError(f"obsm[{source.key!r}] is not there any more, which uns describes; embed the cells once more.")
    unit_nd = z_nd / np.maximum(np.linalg.norm(z_nd, axis=1, keepdims=True), 1e-12)
    written_nd = np.asarray(adata.obsm[source.key])
    if written_nd.shape != unit_nd.shape or not np.allclose(written_nd, unit_nd, atol=0.02):
        raise ValueError(
            f"obsm[{source.key!r}] is not what {source.name} makes of these cells: cells were left out or changed since, or "
            "nmf had a source. Embed these cells once more by sc_ssl.tl.embed and explain that."
        )


def _programs(programs: Any, adata: AnnData) -> dict[str, list[str]]:
    """Gene programmes, as they were given; NMF's own by their top genes."""
    if isinstance(programs, str) and is_record(adata.uns.get(programs)):
        record_of = adata.uns[programs]
        if "top_genes" not in record_of:
            raise KeyError(f"uns[{programs!r}] holds no programmes; those of sc_ssl.tl.nmf_transfer do.")
        programs = {name: list(column) for name, column in record_of["top_genes"].items()}
    return find_programs(programs, adata)


def _attribute(
    explainer: Explainer, asked: Sequence[Contrast], n_cells: int, rng: np.random.Generator
) -> tuple[np.ndarray, pd.DataFrame]:
    """Mean contributions, (k, g), and how complete they are."""
    rows, contributions = [], []
    pairs = [contrast.pairs(n_cells, rng) for contrast in asked]
    for contrast, (cell_m, other_m) in zip(tracked(asked, "explain"), pairs, strict=True):
        contribution_mg, difference_m = explainer.attribute(cell_m, other_m, contrast.direction_d)
        missing_m = np.abs(contribution_mg.sum(axis=1, dtype=np.float64) - difference_m)
        row = {"kind": contrast.kind, "group": contrast.name, "n_cells": len(cell_m)}
        row |= {"difference": float(difference_m.mean()), "explained": float(contribution_mg.sum(dtype=np.float64))}
        row["explained"] /= len(cell_m)
        rows.append(row | {"error": float(missing_m.mean() / max(np.abs(difference_m).mean(), 1e-12))})
        contributions.append(contribution_mg.mean(axis=0, dtype=np.float64))
    return np.stack(contributions), pd.DataFrame(rows)


def _gene_table(
    counts: Counts, genes: pd.Index, asked: Sequence[Contrast], contribution_kg: np.ndarray
) -> tuple[pd.DataFrame, np.ndarray]:
    """A row a group and gene, by falling contribution; and the mean log-expression of each gene."""
    cells = Cells.from_counts(counts.take_genes(genes), list(genes), library_size=counts.library_size)
    code_ns = np.stack([part for c in asked for part in (c.inside_n, c.outside_n)], axis=1).astype(np.float64)
    mean_sg, share_sg, mean_g = _mean_expression(cells, code_ns, log_input=counts.kind == "log1p")
    parts = []
    for k, contrast in enumerate(asked):
        inside, outside = np.expm1(mean_sg[2 * k]) + SMALL_MEAN, np.expm1(mean_sg[2 * k + 1]) + SMALL_MEAN
        part = pd.DataFrame(
            {
                "kind": contrast.kind,
                "group": contrast.name,
                "names": np.asarray(genes, dtype=object),
                "scores": contribution_kg[k],
                "logfoldchanges": np.log2(inside / outside),
                "pct_nz_group": share_sg[2 * k],
                "pct_nz_reference": share_sg[2 * k + 1],
            }
        )
        parts.append(part.sort_values("scores", ascending=False, kind="stable"))
    table = pd.concat(parts, ignore_index=True)
    return table.astype({"kind": "category", "group": "category"}), mean_g


def _mean_expression(
    cells: Cells, member_ns: np.ndarray, *, log_input: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean log-expression and share of cells that express, (s, g), of sets of cells; and the mean of all, (g,)."""
    target_sum = float(np.median(cells.library_size))
    member_ns = np.hstack([member_ns, np.ones((len(member_ns), 1))])
    total_sg, expressed_sg = np.zeros((2, member_ns.shape[1], cells.n_genes))
    for rows, chunk in cells.chunks():
        log_ng = chunk if log_input else log_expression(chunk, cells.library_size[rows], target_sum)
        total_sg += (log_ng.T @ member_ns[rows]).T
        expressed_sg += ((log_ng != 0).astype(np.float64).T @ member_ns[rows]).T
    n_s1 = member_ns.sum(axis=0)[:, None]
    return (total_sg / n_s1)[:-1], (expressed_sg / n_s1)[:-1], (total_sg / n_s1)[-1]


def _score_programs(
    table: pd.DataFrame,
    asked: Sequence[Contrast],
    genes: pd.Index,
    programs: Mapping[str, Sequence[str]],
    mean_g: np.ndarray,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Programmes of each group, by contributions that are negative where the group expresses the gene less."""
    signed = (table["scores"] * np.sign(table["logfoldchanges"])).to_numpy().reshape(len(asked), len(genes))
    position = genes.get_indexer(table["names"]).reshape(len(asked), len(genes))
    signed_kg = np.take_along_axis(signed, position.argsort(axis=1), axis=1)
    scores = program_scores(signed_kg, [c.name for c in asked], list(genes), programs, mean_g, rng)
    return scores.astype({"group": "category", "program": "category"})


def _of_all_genes(
    adata: AnnData, genes: pd.Index, asked: Sequence[Contrast], contribution_kg: np.ndarray
) -> pd.DataFrame:
    """Genes of the data × groups, NaN for genes that the embedding does not read."""
    values = np.full((adata.n_vars, len(asked)), np.nan)
    values[locate_genes(adata.var_names, genes)] = contribution_kg.T
    names = [c.name for c in asked]
    twice = {name for name in names if names.count(name) > 1}
    columns = [f"{c.kind} {c.name}" if c.name in twice else c.name for c in asked]
    return pd.DataFrame(values, index=adata.var_names, columns=columns)
