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
from .joint_embedding import barlow_twins, negative_cosine, vicreg
from .likelihoods import count_nll, nb_nll, poisson_nll, zinb_nll
from .reconstruction import scored_weight, squared_error

__all__ = [
    "assignment_kl",
    "barlow_twins",
    "count_nll",
    "nb_nll",
    "negative_cosine",
    "nt_xent",
    "pairwise_similarity_kl",
    "poisson_nll",
    "scored_weight",
    "soft_kmeans",
    "squared_distance",
    "squared_error",
    "student_t_assignment",
    "target_distribution",
    "vicreg",
    "zinb_nll",
]
