"""Cells that a model is registered with, and others that are read by the same names of genes, batches and layers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from scvi.data import AnnDataManager
from scvi.data.fields import CategoricalObsField, LayerField, NumericalObsField
from scvi.model.base import BaseModelClass

from sc_ssl import _compat
from sc_ssl.data import (
    CellLoader,
    Cells,
    check_batches,
    check_cells,
    check_input,
    find_matrix,
    gene_statistics,
    gene_weights,
)
from sc_ssl.nn import LogNormalize

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anndata import AnnData
    from torch import Tensor

    from ._module import SSLModule


#: smallest share of a model's genes that cells must have to be embedded at all
MIN_COVERAGE = 0.5
#: cells a minibatch where no gradient is kept
INFERENCE_BATCH_SIZE = 1024


class CellsModel(BaseModelClass):
    """A model of scvi-tools that reads its cells through :class:`sc_ssl.data.Cells` and maps them in minibatches."""

    module: SSLModule
    #: what ``setup_anndata`` takes as ``input``
    inputs: tuple[str, ...] = ("counts", "log1p")
    #: cells without the column that names their batch are embedded too, as cells of a new batch
    takes_new_batches: bool = False
    #: smallest share of the model's genes that cells must have for it to be trained on them
    own_coverage: float = 1.0

    def __init__(self, adata: AnnData | None = None, registry: dict[str, Any] | None = None) -> None:
        super().__init__(adata, registry)
        self._cells = None if adata is None else self._read(adata)

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        *,
        layer: str | None = None,
        batch_key: str | None = None,
        size_factor_key: str | None = None,
        input: Literal["counts", "log1p", "scaled"] = "counts",
        **kwargs: Any,
    ) -> None:
        """Register an AnnData: name its counts and keys, copy nothing.

        Parameters
        ----------
        adata
            Cells × genes, already restricted to the genes that the model shall use (a given encoder has its own). Not a
            view.
        layer
            Layer of raw counts; ``None`` takes ``X``.
        batch_key
            Column of ``obs`` with the batch: genes are then z-scored within their batch.
        size_factor_key
            Column of ``obs`` with each cell's library size (counts over all genes, > 0); ``None`` sums the genes here.
        input
            ``"log1p"`` when the matrix holds log-normalised values, for want of counts; ``"scaled"``, for models that
            predict from bulk expression too, when it holds z-scores or other values with negatives.

        Raises
        ------
        KeyError
            A layer or key that is not there.
        ValueError
            Not counts; NaN, infinite or negative values; duplicated gene names; fewer than two cells, in all or in a
            batch.
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        if input not in cls.inputs:
            raise ValueError(
                f"input of a {cls.__name__} is one of {', '.join(map(repr, cls.inputs))}, found {input!r}."
            )
        check_cells(adata)
        source = find_matrix(adata, layer)
        check_input(source, adata, input)
        if batch_key is not None:
            check_batches(adata, batch_key)
        manager = AnnDataManager(
            fields=[
                LayerField("X", layer, is_count_data=False, correct_data_format=False),
                CategoricalObsField("batch", batch_key),
                NumericalObsField("size_factor", size_factor_key, required=False),
            ],
            setup_method_args=setup_method_args,
        )
        manager.register_fields(adata, **kwargs)
        cls.register_manager(manager)

    @property
    def var_names(self) -> list[str]:
        """Names of the model's genes, in its order."""
        return _compat.registered_names(self._names_registry)

    @property
    def setup_arguments(self) -> dict[str, Any]:
        """The layer and keys under which the model's cells were registered."""
        return _compat.setup_arguments(self.registry_)

    @property
    def _names_registry(self) -> dict[str, Any]:
        """Where the names of the genes, of the batches and of the columns of batches and library sizes stand."""
        return self.registry_

    def _read(self, adata: AnnData, min_coverage: float = 1.0) -> Cells:
        """Read cells for this model, matching genes and batches by name."""
        setup, named = self.setup_arguments, _compat.setup_arguments(self._names_registry)
        batch_key = named["batch_key"]
        unnamed = self.takes_new_batches and batch_key not in (None, *adata.obs)
        cells = Cells.from_anndata(
            adata,
            self.var_names,
            layer=setup["layer"],
            input=setup["input"],
            batch_key=None if unnamed else batch_key,
            batches=_compat.registered_batches(self._names_registry),
            size_factor_key=setup["size_factor_key"] or named["size_factor_key"],
            min_coverage=min_coverage,
        )
        return replace(cells, batch=np.full(cells.n_cells, -1)) if unnamed else cells

    def _attach(self, adata: AnnData, *, min_coverage: float) -> None:
        self._cells = self._read(adata, min_coverage)
        self._adata = adata

    def _own_cells(self) -> Cells:
        if self._cells is None:
            raise ValueError("the model was loaded without cells; pass adata, here or to load().")
        return self._cells

    def _normalizer(self, *, weigh_genes: bool = True) -> LogNormalize:
        """The normalisation of this model's cells; without cells its statistics come with the saved tensors.

        Genes can be weighed only by their counts: other input is z-scored and no more.
        """
        log_input = self.setup_arguments["input"] != "counts"
        n_batch = self.summary_stats.n_batch
        normalize = LogNormalize(len(self.var_names), n_batch, log_input=log_input)
        if self._cells is not None:
            target_sum, mean_bg, sd_bg = gene_statistics(self._cells, n_batch=n_batch, log_input=log_input)
            weight_g = torch.as_tensor(gene_weights(self._cells)) if weigh_genes and not log_input else None
            normalize.set_statistics(target_sum, torch.as_tensor(mean_bg), torch.as_tensor(sd_bg), weight_g)
        return normalize

    @torch.inference_mode()
    def _map_cells(
        self,
        function: Callable[[dict[str, Tensor]], Tensor],
        adata: AnnData | None,
        indices: Sequence[int] | np.ndarray | None,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Apply a function of a minibatch to cells in order; float32."""
        cells = self._own_cells() if adata is None else self._read(adata, MIN_COVERAGE)
        index = positions(cells.n_cells, indices)
        # of no cells one is taken and left out again, for the shape
        loader = self._loader(cells, index if len(index) else np.zeros(1, int), batch_size)
        training = self.module.training
        self.module.eval()
        try:
            results = [function(minibatch).float().cpu() for minibatch in loader]
        finally:
            self.module.train(training)
        return torch.cat(results)[: len(index)].numpy()

    def _loader(self, cells: Cells, index: np.ndarray | None = None, batch_size: int | None = None) -> CellLoader:
        """Minibatches in order, on the model's device."""
        index = np.arange(cells.n_cells) if index is None else index
        return CellLoader(cells, index, batch_size or INFERENCE_BATCH_SIZE, device=self.device)


def positions(n_cells: int, indices: Sequence[int] | np.ndarray | None) -> np.ndarray:
    """Positions of the cells asked for, by position or by a boolean mask; of all by default."""
    index = np.arange(n_cells)
    if indices is None:
        return index
    return index[np.asarray(indices)] if len(indices) else index[:0]
