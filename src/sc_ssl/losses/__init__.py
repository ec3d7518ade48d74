"""How a prediction is scored: pure functions of tensors. Torch only."""

from .clustering import (
    assignment_kl,
    pairwise_similarity_kl,
    soft_kmeans,
    squared_distance,
    student_t_assignment,
    target_distribution,
)
from .contrastive import nt_xent
from .likelihoods import count_nll, nb_nll, poisson_nll, zinb_nll
from .reconstruction import scored_weight, squared_error

__all__ = [
    "assignment_kl",
    "count_nll",
    "nb_nll",
    "nt_xent",
    "pairwise_similarity_kl",
    "poisson_nll",
    "scored_weight",
    "soft_kmeans",
    "squared_distance",
    "squared_error",
    "student_t_assignment",
    "target_distribution",
    "zinb_nll",
]
