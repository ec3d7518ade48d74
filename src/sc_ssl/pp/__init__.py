"""Preparing counts: what a matrix holds, which genes vary, genes in a model's order."""

from .align_genes import align_genes
from .check_counts import check_counts
from .select_genes import select_genes

__all__ = ["align_genes", "check_counts", "select_genes"]
