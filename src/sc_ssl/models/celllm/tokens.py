"""A cell as the set of genes that it expresses: one token a gene, no order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from sc_ssl._checks import check_choice, check_count, check_positive

Values = Literal["continuous", "quantile", "log2"]

#: log2 of a whole number may fall short of it by rounding
ROUNDING = 1e-4


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """Which of a cell's genes become tokens, and in which form their expression enters.

    Parameters
    ----------
    values
        ``"continuous"`` z-scores, or bins: ``"quantile"`` or ``"log2"``.
    n_bins
        Number of bins, ≥ 2.
    target_sum
        Counts per cell that cells are normalised to, > 0, for bins; ``None`` takes the median of the training cells.
    max_genes, max_training_genes
        Genes of a cell that are shown for embedding and in training, ≥ 1; ``None`` shows all.
    """

    values: Values
    n_bins: int
    target_sum: float | None
    max_genes: int | None
    max_training_genes: int | None

    def __post_init__(self) -> None:
        check_choice("values", self.values, get_args(Values))
        check_count("n_bins", self.n_bins, least=2)
        for name in ("max_genes", "max_training_genes"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        if self.target_sum is not None:
            check_positive("target_sum", self.target_sum)
            if self.values == "continuous":
                raise ValueError(
                    "target_sum is for values='log2' or 'quantile'; z-scores are of the training cells' median."
                )


class Tokens(NamedTuple):
    """The expressed genes of n cells, padded to the longest; the order within a cell has no meaning.

    Attributes
    ----------
    gene_nt
        Positions of the genes, (n, t) int64; the number of genes g where there is none.
    value_nt
        Their expression, (n, t), > 0; 0 where there is none.
    real_nt
        True where there is a gene, (n, t).
    """

    gene_nt: Tensor
    value_nt: Tensor
    real_nt: Tensor


def expressed_genes(x_ng: Tensor) -> Tokens:
    """Tokens of all genes that a cell expresses, on the device of its expression.

    Parameters
    ----------
    x_ng
        Expression, (n, g), ≥ 0 and 0 for a gene without counts.
    """
    n_cells, n_genes = x_ng.shape
    # the m expressed entries, cell after cell
    cell_m, gene_m = x_ng.nonzero(as_tuple=True)
    length_n = torch.bincount(cell_m, minlength=n_cells)
    t = int(length_n.max()) if n_cells else 0
    # place of an entry among those of its own cell: its number less that of the cell's first entry
    place_m = torch.arange(len(cell_m), device=x_ng.device) - (length_n.cumsum(0) - length_n)[cell_m]
    gene_nt = torch.full((n_cells, t), n_genes, device=x_ng.device)
    value_nt = x_ng.new_zeros(n_cells, t)
    gene_nt[cell_m, place_m] = gene_m
    value_nt[cell_m, place_m] = x_ng[cell_m, gene_m]
    return Tokens(gene_nt, value_nt, torch.arange(t, device=x_ng.device) < length_n[:, None])


def keep_tokens(tokens: Tokens, keep_nt: Tensor, n_genes: int) -> Tokens:
    """Leave out the tokens that are not kept, and pad the rest to the longest cell that is left."""
    keep_nt = keep_nt & tokens.real_nt
    t = int(keep_nt.sum(dim=1).max()) if keep_nt.numel() else 0
    # a stable sort brings what is kept to the front and leaves its order
    kept, order_nt = torch.sort(keep_nt, dim=1, descending=True, stable=True)
    kept, order_nt = kept[:, :t], order_nt[:, :t]
    gene_nt = tokens.gene_nt.gather(1, order_nt).masked_fill(~kept, n_genes)
    return Tokens(gene_nt, tokens.value_nt.gather(1, order_nt).masked_fill(~kept, 0), kept)


def most_expressed(tokens: Tokens, max_genes: int, priority_g: Tensor) -> Tokens:
    """At most this many genes of each cell, those of highest expression; among equals a fixed priority decides.

    Parameters
    ----------
    tokens
        All expressed genes.
    max_genes
        Largest number of tokens, ≥ 1. Scoring a gene by its place in a list, as the released code of CellLM does, would
        leave out the same genes of every deep cell.
    priority_g
        A permutation of the genes, (g,); smaller comes first.
    """
    if tokens.gene_nt.shape[1] <= max_genes:
        return tokens
    n_genes = len(priority_g)
    # sort by priority (padding last), then stably by expression: equal values stay in the order of their priority
    place_nt = torch.cat([priority_g, priority_g.new_full((1,), n_genes)])[tokens.gene_nt]
    by_priority = place_nt.argsort(dim=1)
    by_value = tokens.value_nt.gather(1, by_priority).argsort(dim=1, descending=True, stable=True)
    chosen = by_priority.gather(1, by_value)[:, :max_genes]
    return keep_tokens(tokens, torch.zeros_like(tokens.real_nt).scatter_(1, chosen, True), n_genes)


def random_genes(tokens: Tokens, max_genes: int, n_genes: int) -> Tokens:
    """At most this many genes of each cell, drawn without replacement, each as likely as the others."""
    if tokens.gene_nt.shape[1] <= max_genes:
        return tokens
    # the genes of the smallest random numbers; padding has the largest
    drawn_nt = torch.rand_like(tokens.value_nt).masked_fill(~tokens.real_nt, torch.inf)
    chosen = drawn_nt.topk(max_genes, dim=1, largest=False).indices
    return keep_tokens(tokens, torch.zeros_like(tokens.real_nt).scatter_(1, chosen, True), n_genes)


def drop_tokens(tokens: Tokens, rate: float, n_genes: int) -> Tokens:
    """Leave out each gene of each cell with this probability in [0, 1), but never all genes of a cell."""
    if not 0 <= rate < 1:
        raise ValueError(f"rate is a probability in [0, 1), found {rate}.")
    if not rate or not tokens.real_nt.numel():
        return tokens
    drawn_nt = torch.rand(tokens.real_nt.shape, device=tokens.real_nt.device).masked_fill(~tokens.real_nt, -1)
    keep_nt = drawn_nt >= rate
    # the gene of the largest random number stays in any case
    keep_nt.scatter_(1, drawn_nt.argmax(dim=1, keepdim=True), True)
    return keep_tokens(tokens, keep_nt, n_genes)


def log2_bins(tokens: Tokens, n_bins: int) -> Tensor:
    """``min(⌊log2(1 + expression)⌋, n_bins − 1)``, the bins of scBERT and CellLM; (n, t) int64.

    Bin 0 is "expressed, below 1", not "absent": what is absent has no token.

    Parameters
    ----------
    tokens
        With log2(1 + x), x normalised counts, as their expression.
    n_bins
        Number of bins; the last one has no upper end.
    """
    return (tokens.value_nt + ROUNDING).floor().long().clamp(max=n_bins - 1)


def quantile_bins(tokens: Tokens, n_bins: int) -> Tensor:
    """The bin of each gene among the expressed genes of its own cell, which depth does not move; (n, t) int64.

    A gene above a share q of the cell's other genes is in bin ``⌊q · n_bins⌋``; equal values share the lowest bin.
    """
    # how many of the cell's genes are below this one, by a binary search among its sorted values
    ordered_nt = tokens.value_nt.masked_fill(~tokens.real_nt, torch.inf).sort(dim=1).values.contiguous()
    below_nt = torch.searchsorted(ordered_nt, tokens.value_nt.contiguous())
    length_n1 = tokens.real_nt.sum(dim=1, keepdim=True).clamp(min=1)
    return (below_nt * n_bins).div(length_n1, rounding_mode="floor").clamp(max=n_bins - 1)
