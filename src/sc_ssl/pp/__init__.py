"""Preparing counts: what a matrix holds, which genes vary, genes in a model's order, orthologs, gene programmes, gene graphs."""

from .align_genes import align_genes
from .check_counts import check_counts
from .join_studies import join_studies
from .map_orthologs import map_orthologs
from .open_cells import open_cells
from .ppi_gene_embeddings import ppi_gene_embeddings
from .read_gmt import read_gmt
from .select_genes import select_genes

__all__ = [
    "align_genes",
    "check_counts",
    "join_studies",
    "map_orthologs",
    "open_cells",
    "ppi_gene_embeddings",
    "read_gmt",
    "select_genes",
]
