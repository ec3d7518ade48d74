"""New batches beside a reference, without what sets like cells of the two apart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from sc_ssl._keys import LIBRARY_SIZE
from sc_ssl.data import Cells, batch_statistics, locate_genes

from ._cells import known_genes, named_as, private_cells, read_by

if TYPE_CHECKING:
    from sc_ssl.data import Counts, LightAnnData
    from sc_ssl.models import SSLModel

#: more cells than this, representative of their batches, change no mean
MAX_CELLS = 20_000
#: what sets a batch of fewer cells apart cannot be known
MIN_CELLS = 20
#: the batch of a query's cells, for models that ask for one
NEW_BATCH = "batch of a query"


@dataclass(frozen=True)
class Pair:
    """A reference and a query as a trained model reads them.

    Attributes
    ----------
    model
        The model.
    known, query
        Counts of both, genes named as the model's.
    known_batch_n, query_batch_n
        Batches of both, codes from 0.
    """

    model: SSLModel
    known: Counts
    query: Counts
    known_batch_n: np.ndarray
    query_batch_n: np.ndarray

    @classmethod
    def read(
        cls,
        model: SSLModel,
        known: Counts,
        query: Counts,
        known_batch_n: np.ndarray,
        query_batch_n: np.ndarray,
        orthologs: Any,
    ) -> Pair:
        """Both under the model's names of genes; an error where one has under half of them."""
        both = [named_as(model, counts, orthologs) for counts in (known, query)]
        for counts in both:
            known_genes(counts, model)
        return cls(model, *both, known_batch_n, query_batch_n)

    @cached_property
    def genes(self) -> list[str]:
        """Genes of the model that both measured, in its order."""
        there = [locate_genes(counts.var_names, self.model.var_names) >= 0 for counts in (self.known, self.query)]
        return [gene for gene, found in zip(self.model.var_names, there[0] & there[1], strict=True) if found]

    @cached_property
    def known_cells(self) -> Cells:
        """The reference over :attr:`genes`."""
        return self._over_genes(self.known, self.known_batch_n)

    @cached_property
    def query_cells(self) -> Cells:
        """The query over :attr:`genes`."""
        return self._over_genes(self.query, self.query_batch_n)

    @property
    def log_input(self) -> bool:
        """Whether the values are log-normalised."""
        return self.model.setup_arguments["input"] != "counts"

    @property
    def target_sum(self) -> float:
        """Library size (counts) that the model brings cells to."""
        return float(self.model.module.normalize.target_sum)

    @cached_property
    def shift_bg(self) -> np.ndarray:
        """How far each gene's log-expression lies from the reference's in like cells, of each batch of the query, (b, g).

        See :func:`~sc_ssl.data.batch_statistics`. Batches of fewer than 20 cells are taken as they are.
        """
        some, others = self.known_cells.spread(MAX_CELLS), self.query_cells.spread(MAX_CELLS)
        both = replace(
            some,
            matrix=sparse.vstack([part.rows(np.arange(part.n_cells)) for part in (some, others)], format="csr"),
            library_size=np.concatenate([some.library_size, others.library_size]),
            batch=np.concatenate([np.zeros(some.n_cells, np.int64), 1 + others.batch]),
        )
        mean_bg, n_b = self._means(both), np.bincount(self.query_batch_n)
        return np.where((n_b >= MIN_CELLS)[:, None], mean_bg[1:] - mean_bg[0], 0.0)

    @cached_property
    def shift_within_bg(self) -> np.ndarray:
        """The same of each batch of the reference, beside its other batches, (b, g)."""
        n_b = np.bincount(self.known_batch_n)
        if len(n_b) < 2:
            return np.zeros((1, len(self.genes)))
        mean_bg = self._means(self.known_cells)
        others_bg = (n_b @ mean_bg - n_b[:, None] * mean_bg) / (n_b.sum() - n_b)[:, None]
        return np.where((n_b >= MIN_CELLS)[:, None], mean_bg - others_bg, 0.0)

    def embed_known(self) -> np.ndarray:
        """The model's embedding of the reference, (n, d)."""
        return self.model.get_latent_representation(read_by(self.model, self.known, None))

    def embed_query(self, *, aligned: bool) -> np.ndarray:
        """The model's embedding of the query, (m, d); ``aligned`` takes the shift of its batches off the genes first."""
        model = self.model.load_query(self.model, self._new_cells())
        if not aligned:
            return model.get_latent_representation()
        mean_bg, position_g = model.module.normalize.mean_bg, locate_genes(pd.Index(model.var_names), self.genes)
        own_bg, found_nd = mean_bg.clone(), None
        for batch, shift_g in enumerate(self.shift_bg):
            mean_bg.copy_(own_bg)
            mean_bg[:, position_g] += torch.as_tensor(shift_g, dtype=mean_bg.dtype, device=mean_bg.device)
            rows = np.flatnonzero(self.query_batch_n == batch)
            z_nd = model.get_latent_representation(indices=rows)
            found_nd = np.empty((len(self.query_batch_n), z_nd.shape[1]), np.float32) if found_nd is None else found_nd
            found_nd[rows] = z_nd
        return found_nd

    def _new_cells(self) -> LightAnnData:
        """The query as cells of a batch that the model has not seen."""
        setup = self.model.setup_arguments
        cells = private_cells(self.query, known_genes(self.query, self.model))
        if setup["batch_key"] is not None and not self.model.takes_new_batches:
            cells.obs[setup["batch_key"]] = NEW_BATCH
        if setup["library_size_key"] is not None:
            cells.obs[setup["library_size_key"]] = cells.obs[LIBRARY_SIZE]
        return cells

    def _over_genes(self, counts: Counts, batch_n: np.ndarray) -> Cells:
        given = self.model.setup_arguments["library_size_key"] is not None
        return Cells.from_counts(counts, self.genes, library_size=counts.library_size if given else None, batch=batch_n)

    def _means(self, cells: Cells) -> np.ndarray:
        """Means of the genes in each batch, as they would be if all had the same composition, (b, g)."""
        n_batch = int(cells.batch.max()) + 1
        return batch_statistics(cells, n_batch=n_batch, log_input=self.log_input, target_sum=self.target_sum).mean_bg[
            1:
        ]
