"""What a model reads: cells in the model's gene order, their library sizes and batches, in minibatches."""

from .cells import (
    MIN_COVERAGE,
    Cells,
    as_names,
    check_batches,
    check_coverage,
    in_order,
    library_sizes,
    match_genes,
    obs_categories,
)
from .counts import (
    Source,
    check_cells,
    check_input,
    check_kind,
    check_values,
    describe_matrix,
    find_counts,
    find_matrix,
)
from .loader import CellDataModule, CellLoader
from .neighbors import nearest_cells
from .obsm import obsm_values
from .principal_components import gene_loadings, principal_components
from .programs import find_programs, program_members, read_programs, regulon_members
from .rows import evenly_spread, is_backed, iter_chunks, take_rows, to_csr
from .statistics import gene_statistics, gene_weights, log_expression
from .vocabulary import GeneNames, GeneVocabulary, describe_names, without_version

__all__ = [
    "MIN_COVERAGE",
    "CellDataModule",
    "CellLoader",
    "Cells",
    "GeneNames",
    "GeneVocabulary",
    "Source",
    "as_names",
    "check_batches",
    "check_cells",
    "check_coverage",
    "check_input",
    "check_kind",
    "check_values",
    "describe_matrix",
    "describe_names",
    "evenly_spread",
    "find_counts",
    "find_matrix",
    "find_programs",
    "gene_loadings",
    "gene_statistics",
    "gene_weights",
    "in_order",
    "is_backed",
    "iter_chunks",
    "library_sizes",
    "log_expression",
    "match_genes",
    "nearest_cells",
    "obs_categories",
    "obsm_values",
    "principal_components",
    "program_members",
    "read_programs",
    "regulon_members",
    "take_rows",
    "to_csr",
    "without_version",
]
