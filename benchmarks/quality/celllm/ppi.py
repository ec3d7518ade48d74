"""``celllm --task ppi``: do vectors of genes keep what is known of them, interactions held out and pathways?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from benchmarks.quality.data import resource
from benchmarks.quality.table import Table
from sc_ssl.data import program_members, read_programs
from sc_ssl.pp import ppi_gene_embeddings
from sc_ssl.pp.ppi_gene_embeddings import adjacency_svd, read_graph

#: files among the resources, in place of data sets
GRAPHS = ("ppi_string850_tgsa706_human", "ppi_string_highconf_cellchat_human")
REACTOME = "msigdb_c2.cp.reactome.v7.0.symbols.gmt"
#: files that are read beside the data sets
NEEDS = (*(f"{graph}.tsv.gz" for graph in GRAPHS), REACTOME)
MEASURES = ("edge_auroc", "edge_auroc_matched", "reactome_enrichment")
HELD_OUT_RATE = 0.1
N_NEIGHBORS = 10
#: two genes of a larger pathway need have little in common
MAX_PATHWAY = 100
N_DIMS = 512

#: the genes, training edges (2, e) in both directions and a seed → vectors of the genes
Vectors = Callable[[pd.Index, np.ndarray, int], np.ndarray]


def graph_mae(genes: pd.Index, edge_2e: np.ndarray, seed: int) -> np.ndarray:
    """Ours, at its defaults; a gene that lost its last interaction has no vector and gets 0."""
    edges = pd.DataFrame(np.asarray(genes)[edge_2e.T])
    return ppi_gene_embeddings(list(genes), edges, N_DIMS, random_state=seed).fillna(0).to_numpy()


def svd(n_dims: int) -> Vectors:
    """Singular vectors of the normalised adjacency."""
    return lambda genes, edge_2e, seed: adjacency_svd(edge_2e, len(genes), n_dims)


def neighbours(genes: pd.Index, edge_2e: np.ndarray, seed: int) -> np.ndarray:
    """Rows of the adjacency itself: genes are alike that share interactions."""
    loops = np.arange(len(genes))
    row, column = np.concatenate([edge_2e, np.stack([loops, loops])], axis=1)
    return sparse.csr_matrix((np.ones(len(row)), (row, column)), shape=(len(genes),) * 2).toarray()


def chance(genes: pd.Index, edge_2e: np.ndarray, seed: int) -> np.ndarray:
    """Random vectors."""
    return np.random.default_rng(seed).normal(size=(len(genes), N_DIMS))


ROWS: dict[str, Vectors] = {
    "GraphMAE": graph_mae,
    "SVD, 512 dimensions": svd(512),
    "SVD, 64 dimensions": svd(64),
    "shared neighbours": neighbours,
    "random vectors": chance,
}


@dataclass(frozen=True)
class Interactions:
    """A graph of genes, its edges in both directions (2, e), those to train on and those held out."""

    genes: pd.Index
    edge_2e: np.ndarray
    train_2e: np.ndarray
    held_2e: np.ndarray


def interactions(graph: str, seed: int) -> Interactions:
    """A graph from its file, a tenth of its edges held out."""
    genes, edge_2e = read_graph(resource(f"{graph}.tsv.gz"))
    return Interactions(genes, edge_2e, *hold_out(edge_2e, seed))


class InteractionTable(Table):
    """The data sets are graphs."""

    def check(self, datasets: Sequence[str], methods: Sequence[str] | None) -> None:
        """An error unless these are the graphs, and all files are there."""
        unknown = sorted(set(datasets) - set(GRAPHS))
        if unknown:
            raise ValueError(f"the task ppi has graphs of its own, {', '.join(GRAPHS)}; found {', '.join(unknown)}.")
        super().check((), methods)


def benchmark() -> InteractionTable:
    """What the command line runs."""
    return InteractionTable(
        name="celllm_ppi",
        command="celllm --task ppi",
        datasets=GRAPHS,
        rows=ROWS,
        needs=NEEDS,
        prepare=interactions,
        fit=lambda row, graph, this: row(graph.genes, graph.train_2e, this["seed"]),
        evaluate=lambda vectors, graph, this: score(vectors, graph.genes, graph.edge_2e, graph.held_2e, this["seed"]),
        measures=MEASURES,
    )


def hold_out(edge_2e: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges to train on, in both directions, and a tenth of them held out, each once."""
    once_2e = edge_2e[:, edge_2e[0] < edge_2e[1]]
    order = np.random.default_rng(seed).permutation(once_2e.shape[1])
    n_held = round(HELD_OUT_RATE * len(order))
    train_2e = once_2e[:, order[n_held:]]
    return np.concatenate([train_2e, train_2e[::-1]], axis=1), once_2e[:, order[:n_held]]


def score(
    vectors: np.ndarray, genes: pd.Index, edge_2e: np.ndarray, held_2e: np.ndarray, seed: int
) -> dict[str, float]:
    """AUROC of held-out edges by cosine, against random pairs and pairs of the same degrees; Reactome among the nearest.

    The enrichment is the share of pairs of a gene and one of its ten nearest that have a pathway in common, over that
    of random pairs, among genes that are in a pathway of at most 100 genes.
    """
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    rng = np.random.default_rng([seed, 1])
    edges = sparse.csr_matrix((np.ones(edge_2e.shape[1]), edge_2e), shape=(len(genes),) * 2)
    shuffled = np.stack([held_2e[0], rng.permutation(held_2e[1])])
    pairs = {"edge_auroc": rng.integers(len(genes), size=held_2e.shape), "edge_auroc_matched": shuffled}
    scores = {}
    for name, other_2e in pairs.items():
        free = (np.asarray(edges[other_2e[0], other_2e[1]]).ravel() == 0) & (other_2e[0] != other_2e[1])
        both_2e = np.concatenate([held_2e, other_2e[:, free]], axis=1)
        is_edge = np.arange(both_2e.shape[1]) < held_2e.shape[1]
        scores[name] = float(roc_auc_score(is_edge, (unit[both_2e[0]] * unit[both_2e[1]]).sum(axis=1)))
    return scores | {"reactome_enrichment": _enrichment(unit, genes)}


def _enrichment(unit: np.ndarray, genes: pd.Index) -> float:
    _, member_pg = program_members(read_programs(resource(REACTOME)), list(genes), min_genes=2)
    member_pg = member_pg[member_pg.sum(axis=1) <= MAX_PATHWAY].astype(np.float32)
    within = np.flatnonzero(member_pg.any(axis=0))
    together = member_pg[:, within].T @ member_pg[:, within] > 0
    near = NearestNeighbors(n_neighbors=N_NEIGHBORS + 1).fit(unit[within]).kneighbors(return_distance=False)
    itself = np.eye(len(within), dtype=bool)
    found = together[np.arange(len(within))[:, None], near[:, :N_NEIGHBORS]].mean()
    return float(found / together[~itself].mean())
