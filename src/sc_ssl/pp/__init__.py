"""Preparing counts: what a matrix holds, which genes vary, genes in a model's order, programmes."""

from .align_genes import align_genes
from .check_counts import check_counts
from .read_gmt import read_gmt
from .select_genes import select_genes

__all__ = ["align_genes", "check_counts", "read_gmt", "select_genes"]
