"""A cell as patches of genes: the genes of a patch, the embedding of patches, and which are masked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from scipy.cluster.hierarchy import leaves_list, linkage
from torch import Tensor, nn

from sc_ssl._checks import check_choice, check_count, with_defaults

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sc_ssl.data import Cells


def patch_layout(order_g: Tensor, patch_size: int, *, square: bool = False) -> Tensor:
    """Assign genes to patches, (t, p) positions of genes, −1 where the last patches have no gene left.

    Parameters
    ----------
    order_g
        Gene positions in the order in which they fill the matrix, (g,).
    patch_size
        Genes a patch, p.
    square
        The paper's layout: genes fill a matrix row by row, patches are squares of √p × √p. Otherwise each patch takes
        p consecutive genes.
    """
    n_genes = len(order_g)
    if not square:
        n_patches = -(-n_genes // patch_size)
        padded = order_g.new_full((n_patches * patch_size,), -1)
        padded[:n_genes] = order_g
        return padded.view(n_patches, patch_size)
    edge = int(patch_size**0.5)
    if edge**2 != patch_size:
        raise ValueError(f"a square patch needs a square number of genes, found a size of {patch_size}.")
    n_across = -(-int((n_genes - 1) ** 0.5 + 1) // edge)
    side = n_across * edge
    padded = order_g.new_full((side * side,), -1)
    padded[:n_genes] = order_g
    # (side · side,) → (down, edge, across, edge) → (down, across, edge, edge) → (t, p)
    squares = padded.view(n_across, edge, n_across, edge).transpose(1, 2).reshape(-1, patch_size)
    return squares[(squares >= 0).any(dim=1)]


def interleaved(order_g: Tensor, patch_size: int) -> Tensor:
    """Deal the genes out to the patches in turn, so that each patch gets its share of the first genes, (t, p)."""
    n_patches = -(-len(order_g) // patch_size)
    padded = order_g.new_full((n_patches * patch_size,), -1)
    padded[: len(order_g)] = order_g
    # (p · t,) → (p, t) → (t, p): the genes of a patch are t apart
    return padded.view(patch_size, n_patches).T.contiguous()


def to_patches(x_ng: Tensor, patch_genes_tp: Tensor) -> Tensor:
    """Gather the genes of each patch, (n, g) → (n, t, p); slots without a gene are 0. Each gene stands in one slot."""
    flat = patch_genes_tp.flatten()
    x_nk = x_ng.index_select(1, flat.clamp(min=0))
    if len(flat) > x_ng.shape[1]:  # known without asking the device
        x_nk = torch.where(flat >= 0, x_nk, 0.0)
    return x_nk.view(len(x_ng), *patch_genes_tp.shape)  # (n, t · p) → (n, t, p)


class TokenMask(NamedTuple):
    """Positions of the visible (n, v) and of the hidden (n, m) tokens of each cell; together every token once."""

    visible_nv: Tensor
    hidden_nm: Tensor


def random_mask(n_cells: int, n_tokens: int, rate: float, device: torch.device | str = "cpu") -> TokenMask:
    """Hide a random share of the tokens, drawn for each cell alone (He et al. 2022, random masking).

    ``floor(n_tokens * (1 - rate))`` tokens stay visible, but at least one is visible and at least one hidden.

    Parameters
    ----------
    n_cells, n_tokens
        Number of cells n and of tokens a cell.
    rate
        Share of hidden tokens, in (0, 1).
    device
        Where the positions are drawn.
    """
    if not 0 < rate < 1:
        raise ValueError(f"rate is the share of hidden tokens, in (0, 1), found {rate}.")
    if n_tokens < 2:
        raise ValueError(f"masking needs at least 2 tokens, found {n_tokens}.")
    n_visible = min(max(int(n_tokens * (1 - rate) + 1e-9), 1), n_tokens - 1)
    shuffled_nt = torch.rand(n_cells, n_tokens, device=device).argsort(dim=1)
    return TokenMask(shuffled_nt[:, :n_visible], shuffled_nt[:, n_visible:])


class LocalPatchEmbed(nn.Module):
    """A p × d matrix for each patch: every gene has its own vector, a patch is the sum of value × vector.

    The paper's convolution shares one kernel over all patches; but genes are not pixels, and slot j of one patch has
    nothing to do with slot j of the next.
    """

    def __init__(self, n_patches: int, patch_size: int, width: int) -> None:
        super().__init__()
        self.weight_tpd = nn.Parameter(torch.empty(n_patches, patch_size, width))
        bound = (6 / (patch_size + width)) ** 0.5
        nn.init.uniform_(self.weight_tpd, -bound, bound)

    def forward(self, patch_ntp: Tensor) -> Tensor:
        """(n, t, p) → (n, t, d)."""
        return torch.einsum("ntp,tpd->ntd", patch_ntp, self.weight_tpd)


class ConvPatchEmbed(nn.Linear):
    """One p × d matrix for all patches, the paper's convolution of kernel and stride P."""

    def __init__(self, n_patches: int, patch_size: int, width: int) -> None:
        super().__init__(patch_size, width)
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)


PatchEmbed = Literal["local", "conv"]


def build_patch_embed(kind: PatchEmbed, patch_genes_tp: Tensor, width: int) -> LocalPatchEmbed | ConvPatchEmbed:
    """The embedding of this name: (n, t, p) → (n, t, width)."""
    n_patches, patch_size = patch_genes_tp.shape
    return (LocalPatchEmbed if kind == "local" else ConvPatchEmbed)(n_patches, patch_size, width)


GeneOrder = Literal["interleaved", "given", "square", "coexpression", "random"]
#: the defaults of ``patches=``; without a size it follows from the number of genes
PATCHES = {"size": None, "order": "interleaved", "embed": "local"}


def patch_settings(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """All settings of ``patches=``, checked: ``size``, ``order`` and ``embed``."""
    settings = with_defaults("patches", given, PATCHES)
    if settings["size"] is not None:
        check_count("patches['size']", settings["size"])
    check_choice("patches['order']", settings["order"], get_args(GeneOrder))
    check_choice("patches['embed']", settings["embed"], get_args(PatchEmbed))
    return settings


def gene_patches(n_genes: int, patch_size: int | None, order: GeneOrder, cells: Cells | None) -> Tensor:
    """Positions of the genes of each patch, (t, p), −1 for none; p by default 64, or the square that gives 32 patches.

    Without cells, as when a model is loaded, a layout of the right shape whose values come with the saved tensors.

    Raises
    ------
    ValueError
        Fewer than two patches.
    """
    patch_size = patch_size or int(max(min(64, n_genes / 32), 1) ** 0.5) ** 2
    patch_genes_tp = _layout(n_genes, patch_size, order, cells)
    if len(patch_genes_tp) < 2:
        raise ValueError(
            f"{n_genes} genes make {len(patch_genes_tp)} patch of {patch_size}; masking needs 2: lower patches={{'size': …}}."
        )
    return patch_genes_tp


def _layout(n_genes: int, patch_size: int, order: GeneOrder, cells: Cells | None) -> Tensor:
    """Patches in one of the orders, (t, p)."""
    given = torch.arange(n_genes)
    if order == "interleaved":
        return interleaved(given, patch_size)
    if order == "random":
        return patch_layout(torch.randperm(n_genes), patch_size)
    if order == "coexpression" and cells is not None:
        return patch_layout(torch.as_tensor(_coexpression_order(cells)), patch_size)
    return patch_layout(given, patch_size, square=order == "square")


#: more cells than this do not change the order of co-expressed genes; evenly spread ones are taken
MAX_CELLS = 5000


def cross_context(n_patches: int) -> Tensor:
    """True where two patches share a row or a column of the matrix of patches, (t, t)."""
    side = int(np.ceil(n_patches**0.5))
    row, column = torch.arange(n_patches) // side, torch.arange(n_patches) % side
    return (row[:, None] == row) | (column[:, None] == column)


def _coexpression_order(cells: Cells) -> np.ndarray:
    """Leaves of average linkage on the correlation of genes (log1p of counts per median library), (g,)."""
    index = cells.sample(MAX_CELLS)
    per_library = np.median(cells.library_size) / cells.library_size[index]
    logged = np.log1p(cells.rows(index).toarray() * per_library[:, None])
    # 1 − Pearson's correlation as the distance of two genes, and its upper triangle for the linkage
    z = (logged - logged.mean(0)) / np.maximum(logged.std(0), 1e-6)
    distance = 1 - z.T @ z / len(z)
    order_g: np.ndarray = leaves_list(linkage(distance[np.triu_indices(len(distance), 1)], "average"))
    return order_g.astype(np.int64)
