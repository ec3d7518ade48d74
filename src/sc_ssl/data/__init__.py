"""What a model reads: cells in the model's gene order, their library sizes and batches, in minibatches."""

from .batch_statistics import batch_statistics
from .cells import (
    MIN_COVERAGE,
    Cells,
    check_alike,
    check_batches,
    check_coverage,
    match_genes,
    obs_categories,
    obs_column,
    warn_like_missing,
    warn_of_confounded,
)
from .counts import (
    MIN_CELLS,
    Counts,
    LightAnnData,
    check_anndata,
    check_cells,
    find_layer,
    layer_matrix,
    read_counts,
    warn_of_empty,
    warn_of_features,
)
from .harmony import harmonize, warn_of_separate
from .lazy import opened
from .loader import CellDataModule, CellLoader
from .minibatch import Minibatch
from .names import gene_names, locate_genes, without_version
from .neighbors import nearest_cells
from .obsm import obsm_values
from .output import check_writable, write_cells, write_rows
from .principal_components import gene_loadings, principal_components
from .programs import find_programs, program_members, read_programs, regulon_members
from .rows import evenly_spread, in_order, iter_chunks, positions, representative, to_csr
from .sources import Source
from .statistics import GeneStatistics, gene_statistics, gene_weights, log_expression
from .values import Found, Kind, describe_matrix
from .variable_genes import variable_genes
from .vocabulary import GeneNames, GeneVocabulary, describe_names

__all__ = [
    "MIN_CELLS",
    "MIN_COVERAGE",
    "CellDataModule",
    "CellLoader",
    "Cells",
    "Counts",
    "Found",
    "GeneNames",
    "GeneStatistics",
    "GeneVocabulary",
    "Kind",
    "LightAnnData",
    "Minibatch",
    "Source",
    "batch_statistics",
    "check_alike",
    "check_anndata",
    "check_batches",
    "check_cells",
    "check_coverage",
    "check_writable",
    "describe_matrix",
    "describe_names",
    "evenly_spread",
    "find_layer",
    "find_programs",
    "gene_loadings",
    "gene_names",
    "gene_statistics",
    "gene_weights",
    "harmonize",
    "in_order",
    "iter_chunks",
    "layer_matrix",
    "locate_genes",
    "log_expression",
    "match_genes",
    "nearest_cells",
    "obs_categories",
    "obs_column",
    "obsm_values",
    "opened",
    "positions",
    "principal_components",
    "program_members",
    "read_counts",
    "read_programs",
    "regulon_members",
    "representative",
    "to_csr",
    "variable_genes",
    "warn_like_missing",
    "warn_of_confounded",
    "warn_of_empty",
    "warn_of_features",
    "without_version",
    "write_cells",
    "write_rows",
]
