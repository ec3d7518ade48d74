"""The expression matrix of a cell: genes in a fixed order, cut into patches.

mask-sc writes a cell as a matrix and cuts it into P × P squares. Without a shared convolution the square shape has no
meaning: what counts is which genes share a patch. The layout is therefore an integer array (t, p) of gene positions.
"""

import torch
from torch import Tensor


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
        raise ValueError(f"a square patch needs a square number of genes, found patch_size={patch_size}.")
    n_across = -(-int((n_genes - 1) ** 0.5 + 1) // edge)
    side = n_across * edge
    padded = order_g.new_full((side * side,), -1)
    padded[:n_genes] = order_g
    squares = padded.view(n_across, edge, n_across, edge).transpose(1, 2).reshape(-1, patch_size)
    return squares[(squares >= 0).any(dim=1)]


def interleaved(order_g: Tensor, patch_size: int) -> Tensor:
    """Deal the genes out to the patches in turn, so that each patch gets its share of the first genes, (t, p)."""
    n_patches = -(-len(order_g) // patch_size)
    padded = order_g.new_full((n_patches * patch_size,), -1)
    padded[: len(order_g)] = order_g
    return padded.view(patch_size, n_patches).T.contiguous()


def to_patches(x_ng: Tensor, patch_genes_tp: Tensor) -> Tensor:
    """Gather the genes of each patch, (n, g) → (n, t, p); slots without a gene are 0. Each gene stands in one slot."""
    flat = patch_genes_tp.flatten()
    x_nk = x_ng.index_select(1, flat.clamp(min=0))
    if len(flat) > x_ng.shape[1]:  # known without asking the device
        x_nk = torch.where(flat >= 0, x_nk, 0.0)
    return x_nk.view(len(x_ng), *patch_genes_tp.shape)
