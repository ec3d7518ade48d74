"""Gene programmes scored on contributions, against random genes of like expression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from sc_ssl.data import program_members

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: random gene sets, and bins of expression within which genes are exchanged
N_PERMUTATIONS, N_BINS = 1000, 10


def program_scores(
    contribution_kg: np.ndarray,
    groups: Sequence[str],
    genes: Sequence[str],
    programs: Mapping[str, Sequence[str]],
    expression_g: np.ndarray,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """A row a group and programme, by falling score: ``group``, ``program``, ``n_genes``, ``scores``, ``pvals``, ….

    The score is the mean contribution of the programme's genes in standard deviations of its null: as many random genes of
    the same bins of mean expression. The p-value, one-sided, is the share of random sets that reach it, (1 + r) / (1 + 1000);
    ``pvals_adj`` are Benjamini and Hochberg's over the programmes of a group, as scanpy's over its genes.
    """
    names, member_pg = program_members(programs, genes)
    observed_pk = _means(member_pg, contribution_kg)
    total, squares, reached = np.zeros((3, *observed_pk.shape))
    bin_g = pd.qcut(pd.Series(expression_g).rank(method="first"), min(N_BINS, len(genes)), labels=False).to_numpy()
    bins = [np.flatnonzero(bin_g == b) for b in np.unique(bin_g)]
    for _ in range(N_PERMUTATIONS):
        order_g = np.arange(len(genes))
        for members in bins:
            order_g[members] = rng.permutation(members)
        random_pk = _means(member_pg, contribution_kg[:, order_g])
        total, squares, reached = total + random_pk, squares + random_pk**2, reached + (random_pk >= observed_pk)
    mean_pk = total / N_PERMUTATIONS
    sd_pk = np.sqrt(np.maximum(squares / N_PERMUTATIONS - mean_pk**2, 0))
    # a programme of genes that add nothing has no score, whatever rounding leaves of its null
    scale = max(float(np.abs(contribution_kg).max()), 1e-30)
    score_pk = np.where(sd_pk > 1e-9 * scale, (observed_pk - mean_pk) / np.maximum(sd_pk, 1e-30), 0.0)
    p_pk = (1 + reached) / (1 + N_PERMUTATIONS)
    table = pd.DataFrame(
        {
            "group": np.repeat(list(groups), len(names)),
            "program": np.tile(names, len(groups)),
            "n_genes": np.tile(member_pg.sum(axis=1), len(groups)),
            "scores": score_pk.T.ravel(),
            "pvals": p_pk.T.ravel(),
            "pvals_adj": false_discovery_control(p_pk, axis=0).T.ravel(),
            "genes": [_leading(row_g, of_group_g, genes) for of_group_g in contribution_kg for row_g in member_pg],
        }
    )
    order = np.lexsort([-table["scores"], np.repeat(np.arange(len(groups)), len(names))])
    return table.iloc[order].reset_index(drop=True)


def _means(member_pg: np.ndarray, contribution_kg: np.ndarray) -> np.ndarray:
    """Mean contribution of each programme's genes, (p, k)."""
    return member_pg.astype(np.float64) @ contribution_kg.T / member_pg.sum(axis=1, keepdims=True)


def _leading(member_g: np.ndarray, contribution_g: np.ndarray, genes: Sequence[str]) -> str:
    """The five genes of a programme that add most."""
    at = np.flatnonzero(member_g)
    best = at[contribution_g[at].argsort(kind="stable")[::-1][:5]]
    return ", ".join(genes[g] for g in best if contribution_g[g] > 0)
