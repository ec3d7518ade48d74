"""Which genes share a patch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from scipy.cluster.hierarchy import leaves_list, linkage
from torch import Tensor

from sc_ssl._checks import check_choice
from sc_ssl.data import evenly_spread
from sc_ssl.views import interleaved, patch_layout

if TYPE_CHECKING:
    from sc_ssl.data import Cells

GeneOrder = Literal["interleaved", "given", "square", "coexpression", "random"]
GENE_ORDERS = ("interleaved", "given", "square", "coexpression", "random")


def gene_patches(n_genes: int, patch_size: int, order: GeneOrder, cells: Cells | None) -> Tensor:
    """Positions of the genes of each patch, (t, p), −1 for none.

    Without cells, as when a model is loaded, a layout of the right shape whose values come with the saved tensors.
    """
    check_choice("gene_order", order, GENE_ORDERS)
    given = torch.arange(n_genes)
    if order == "interleaved":
        return interleaved(given, patch_size)
    if order == "random":
        return patch_layout(torch.randperm(n_genes), patch_size)
    if order == "coexpression" and cells is not None:
        return patch_layout(torch.as_tensor(_coexpression_order(cells)), patch_size)
    return patch_layout(given, patch_size, square=order == "square")


def cross_context(n_patches: int) -> Tensor:
    """True where two patches share a row or a column of the matrix of patches, (t, t)."""
    side = int(np.ceil(n_patches**0.5))
    row, column = torch.arange(n_patches) // side, torch.arange(n_patches) % side
    return (row[:, None] == row) | (column[:, None] == column)


def _coexpression_order(cells: Cells, *, max_cells: int = 5000) -> np.ndarray:
    """Leaves of average linkage on the correlation of genes (log1p of counts per median library), (g,)."""
    index = evenly_spread(cells.n_cells, max_cells)
    per_library = np.median(cells.size_factor) / cells.size_factor[index]
    logged = np.log1p(cells.rows(index).toarray() * per_library[:, None])
    z = (logged - logged.mean(0)) / np.maximum(logged.std(0), 1e-6)
    distance = 1 - z.T @ z / len(z)
    return leaves_list(linkage(distance[np.triu_indices(len(distance), 1)], "average")).astype(np.int64)
