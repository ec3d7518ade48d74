"""Tools that write results into an AnnData."""

from .annotate import annotate
from .cluster import cluster
from .compare import compare
from .drug_response import drug_response
from .embed import embed
from .explain import explain
from .interpretable import interpretable
from .map_query import map_query
from .nmf_transfer import nmf_transfer
from .pca_cosine import pca_cosine
from .predict_modality import predict_modality

__all__ = [
    "annotate",
    "cluster",
    "compare",
    "drug_response",
    "embed",
    "map_query",
    "explain",
    "interpretable",
    "nmf_transfer",
    "pca_cosine",
    "predict_modality",
]
