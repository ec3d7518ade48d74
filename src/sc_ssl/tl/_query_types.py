"""Types of a query's cells after those of a reference, from components of expression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from sc_ssl._names import as_names
from sc_ssl.data import gene_loadings, gene_statistics, gene_weights, obs_column, representative
from sc_ssl.models import CellClassifier

from ._conformal import FOR_TYPES, TypeClassifier, conformal_sets

if TYPE_CHECKING:
    from anndata import AnnData

    from sc_ssl.data import Cells

    from ._query_space import Pair

#: more cells than this, spread over their types, change no classifier much
MAX_LEARNED = 20_000
#: more cells than this change no statistics
MAX_CELLS = 20_000
N_COMPONENTS = 50
#: largest absolute z-score
CLIP = 10.0


@dataclass(frozen=True)
class Types:
    """Types of a reference: their names, and the position of each cell's among these, −1 for none, (n,)."""

    names: list[str]
    code_n: np.ndarray

    @classmethod
    def read(cls, reference: AnnData, labels_key: str, unlabeled_category: str) -> Self:
        """Of a column of ``obs``; an error for one that names fewer than two types."""
        if labels_key not in reference.obs:
            raise KeyError(f"{labels_key!r} is not in reference.obs, which has {', '.join(reference.obs) or 'none'}.")
        names = CellClassifier.check_labels(reference, labels_key, unlabeled_category)
        return cls(names, pd.Index(names).get_indexer(as_names(obs_column(reference, labels_key))))


@dataclass(frozen=True)
class Predicted:
    """Of the query, probabilities (m, k) of the types and which are in the prediction sets, from ``n_calibration`` cells."""

    proba_mk: np.ndarray
    set_mk: np.ndarray | None = None
    n_calibration: int | None = None


def predict_types(pair: Pair, types: Types, coverage: float | None) -> Predicted:
    """Learn the types of the annotated reference cells and predict those of the query, with sets where a coverage is asked for."""
    space, n_types = _Components(pair), len(types.names)
    annotated = np.flatnonzero(types.code_n >= 0)
    annotated = annotated[representative(types.code_n[annotated], MAX_LEARNED)]
    cells, code_n = pair.known_cells.take(annotated), types.code_n[annotated]
    known_nd, query_nd = space(cells), space(pair.query_cells, pair.shift_bg)
    sets: tuple[Any, Any] = (None, None)
    if coverage is not None:
        as_query_nd = space(cells, pair.shift_within_bg)
        sets = conformal_sets(known_nd, as_query_nd, code_n, cells.batch, query_nd, coverage)
    proba_mk = TypeClassifier(known_nd, code_n)(query_nd, n_types, FOR_TYPES)
    return Predicted(proba_mk.astype(np.float32), *sets)


class _Components:
    """Principal components of the reference, onto which cells are projected once the shift of their batch is taken off."""

    def __init__(self, pair: Pair) -> None:
        some = pair.known_cells.spread(MAX_CELLS)
        self.log_input = pair.log_input
        self.statistics = gene_statistics(
            some.of_one_batch(), n_batch=1, log_input=pair.log_input, target_sum=pair.target_sum
        )
        weight_g = np.ones(some.n_genes) if pair.log_input else gene_weights(some)
        options = {"statistics": self.statistics, "log_input": pair.log_input, "clip": CLIP, "weight_g": weight_g}
        loading_gd = gene_loadings(some.of_one_batch(), n_comps=N_COMPONENTS, **options)
        self.loading_gd = (weight_g[:, None] * loading_gd).astype(np.float32)

    def __call__(self, cells: Cells, shift_bg: np.ndarray | None = None) -> np.ndarray:
        """Components of cells, (n, d) float32; ``shift_bg``: what is taken off the genes in each batch."""
        target_sum, mean_bg, sd_bg = self.statistics
        mean_g, sd_g = mean_bg[0].astype(np.float32), sd_bg[0].astype(np.float32)
        found = []
        for rows, chunk in cells.chunks():
            value_ng = chunk.toarray()
            if not self.log_input:
                value_ng = np.log1p(value_ng * (np.float32(target_sum) / cells.library_size[rows])[:, None])
            if shift_bg is not None:
                value_ng -= shift_bg[cells.batch[rows]].astype(np.float32)
            found.append(np.clip((value_ng - mean_g) / sd_g, -CLIP, CLIP) @ self.loading_gd)
        return np.concatenate(found)
