"""Figures: how training went, why a number of clusters, what embeddings look like, where a model attends, scores."""

from sc_ssl.pl.attention import attention
from sc_ssl.pl.cluster_choice import cluster_choice
from sc_ssl.pl.compare import compare
from sc_ssl.pl.confusion import confusion
from sc_ssl.pl.embedding_compare import embedding_compare
from sc_ssl.pl.explain import explain
from sc_ssl.pl.programs import programs
from sc_ssl.pl.score_table import score_table
from sc_ssl.pl.sweep import sweep
from sc_ssl.pl.training_history import training_history

__all__ = [
    "attention",
    "score_table",
    "cluster_choice",
    "compare",
    "confusion",
    "embedding_compare",
    "explain",
    "programs",
    "sweep",
    "training_history",
]
