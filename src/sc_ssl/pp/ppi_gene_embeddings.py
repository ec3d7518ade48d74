"""Vectors of genes from a graph of protein interactions."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from pandas.api.types import is_float_dtype
from scipy import sparse
from scipy.sparse.linalg import svds

from sc_ssl._keys import PPI
from sc_ssl._logging import logger
from sc_ssl.data import gene_names
from sc_ssl.train import seeded

from ._graph_mae import N_HEADS, train_graph_mae


def ppi_gene_embeddings(
    adata: AnnData | Sequence[str],
    edges: pd.DataFrame | str | Path,
    n_dims: int = 512,
    *,
    n_features: int = 256,
    mask_rate: float = 0.5,
    max_epochs: int = 100,
    lr: float = 1e-3,
    key_added: str = PPI,
    random_state: int | np.random.Generator | None = 0,
    copy: bool = False,
) -> AnnData | pd.DataFrame | None:
    """Learn a vector for each gene from who interacts with whom, by GraphMAE; for ``CellLM(gene_embeddings="X_ppi")``.

    Features of half of the genes are hidden, and a graph attention network reconstructs them from the genes that these
    interact with. The graph brings no features of its own: they are singular vectors of its normalised adjacency. How CellLM's
    authors made theirs is not known. Needs torch-geometric: ``pip install "sc_ssl[ppi]"``.

    Parameters
    ----------
    adata
        Cells × genes with names as in ``edges``; or only the names of genes.
    edges
        Table, or its file (CSV, TSV, also compressed), whose first two columns name the genes of an interaction;
        direction, repeats and further columns are ignored. Genes that are not in ``adata`` help to place the others.
    n_dims
        Width of the vectors, a multiple of 4.
    n_features
        Singular vectors that describe a gene, fewer in a smaller graph.
    mask_rate
        Share of the genes that are hidden at a time, in (0, 1).
    max_epochs
        Times through the graph.
    lr
        Learning rate of Adam, with half a cosine to 0.
    key_added
        Name in ``varm``.
    random_state
        Seed, or a generator to draw it from; the caller's random state is left alone.
    copy
        Write to a copy and return it.

    Returns
    -------
    For names, a table genes × ``n_dims``. For an AnnData ``None``, or the copy, and sets
    ``adata.varm['X_ppi' | key_added]`` : DataFrame, (n_vars, n_dims) float32. Genes without an interaction have NaN.

    Raises
    ------
    ImportError
        Without torch-geometric.
    ValueError
        Edges that are no table of two columns, or name none of the genes; settings out of range.

    References
    ----------
    Hou et al. (2022), GraphMAE: self-supervised masked graph autoencoders, KDD.

    Examples
    --------
    >>> import pandas as pd
    >>> import sc_ssl
    >>> edges = pd.DataFrame({"from": ["A", "A", "B", "C", "D"], "to": ["B", "C", "C", "D", "E"]})
    >>> sc_ssl.pp.ppi_gene_embeddings(["A", "B", "C", "D", "E"], edges, 8, n_features=2, max_epochs=2).shape
    (5, 8)
    """
    if not isinstance(adata, AnnData | pd.Index | np.ndarray | list | tuple):
        raise TypeError(f"expected an AnnData or a list of names of genes, found a {type(adata).__name__}.")
    if n_dims < N_HEADS or n_dims % N_HEADS or not 0 < mask_rate < 1 or n_features < 1 or max_epochs < 1:
        raise ValueError(
            f"n_dims is a multiple of {N_HEADS}, mask_rate lies in (0, 1), n_features and max_epochs are at least 1; found "
            f"{n_dims}, {mask_rate}, {n_features}, {max_epochs}."
        )
    genes = gene_names(pd.Index(adata.var_names if isinstance(adata, AnnData) else list(adata)), "the names of genes")
    nodes, edge_2e = read_graph(edges)
    known = genes.isin(nodes)
    if not known.any():
        raise ValueError(
            f"edges name none of the {len(genes)} genes; they have names such as {nodes[0]!r}, the genes such as "
            f"{genes[0]!r}. Use the same kind of names (symbols or Ensembl ids) and species."
        )
    others = nodes.difference(genes)
    logger.info(
        "%d of %d genes have interactions; %d of the %d genes in edges are not among them and only help to place others%s.",
        known.sum(),
        len(genes),
        len(others),
        len(nodes),
        f", {others[0]!r} for example" if len(others) else "",
    )
    if find_spec("torch_geometric") is None:
        raise ImportError('GraphMAE needs torch-geometric, which is not installed: pip install "sc_ssl[ppi]".')
    feature_vf = torch.as_tensor(adjacency_svd(edge_2e, len(nodes), n_features))
    with seeded(random_state):
        vector_vd, losses = train_graph_mae(
            feature_vf, torch.as_tensor(edge_2e), n_dims=n_dims, mask_rate=mask_rate, max_epochs=max_epochs, lr=lr
        )
    logger.info("GraphMAE's loss went from %.3f to %.3f.", losses[0], losses[-1])
    table = pd.DataFrame(vector_vd.numpy(), index=nodes).reindex(genes)
    if not isinstance(adata, AnnData):
        return table
    table.columns = table.columns.astype(str)
    adata = adata.copy() if copy else adata
    adata.varm[key_added] = table
    return adata if copy else None


def _read_table(path: str | Path) -> pd.DataFrame:
    """A file of edges, with names of its columns in the first line or without."""
    if not isinstance(path, str | Path):
        raise TypeError(f"edges are a DataFrame or the path of a file, found {type(path).__name__}.")
    table = pd.read_csv(path, sep=None, engine="python")
    if table.shape[1] > 1 and table.columns[:2].isin(np.unique(table.iloc[:, :2].astype(str))).any():
        table = pd.read_csv(path, sep=None, engine="python", header=None)  # the first line names genes
    return table


def read_graph(edges: pd.DataFrame | str | Path) -> tuple[pd.Index, np.ndarray]:
    """Names of the genes, sorted, and each interaction in both directions, once each, (2, e); none with itself."""
    table = edges if isinstance(edges, pd.DataFrame) else _read_table(edges)
    if table.shape[1] < 2 or len(table) == 0:
        raise ValueError(f"edges need two columns of genes and a row for each interaction, found shape {table.shape}.")
    for name in table.columns[:2]:
        if is_float_dtype(table[name]):
            raise ValueError(
                f"the first two columns of edges name genes, found numbers such as {table[name].iloc[0]} in {name!r}; put "
                "the two columns of genes first."
            )
    pairs = table.iloc[:, :2].dropna().astype(str).to_numpy()
    nodes, code = np.unique(pairs, return_inverse=True)
    code = code.reshape(pairs.shape)
    both = np.concatenate([code, code[:, ::-1]])
    edge_2e = np.unique(both[both[:, 0] != both[:, 1]], axis=0).T.copy()
    if not edge_2e.size:
        raise ValueError(f"edges need an interaction between two different genes, found none in {len(table)} rows.")
    return pd.Index(nodes), edge_2e


def adjacency_svd(edge_2e: np.ndarray, n_nodes: int, n_features: int) -> np.ndarray:
    """Leading singular vectors of ``D^(-1/2) (A + 1) D^(-1/2)``, each times √ of its value, (v, f) float32."""
    loops = np.arange(n_nodes)
    row, column = np.concatenate([edge_2e, np.stack([loops, loops])], axis=1)
    per_degree = 1 / np.sqrt(np.bincount(row, minlength=n_nodes))
    weight = per_degree[row] * per_degree[column]
    adjacency = sparse.csr_matrix((weight, (row, column)), shape=(n_nodes, n_nodes))
    vectors, values, _ = svds(adjacency, k=min(n_features, n_nodes - 1), v0=np.ones(n_nodes), solver="arpack")
    order = np.argsort(-values)
    return (vectors[:, order] * np.sqrt(values[order])).astype(np.float32)
