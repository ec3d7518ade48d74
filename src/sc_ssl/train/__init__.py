"""How a model is optimised: the training plan, divided minibatches, schedules and seeds."""

from .chunked_contrast import ChunkedContrastPlan, View, divide, divided_backward, end_to_end, joint_terms
from .plan import SSLTrainingPlan, warmup_cosine
from .progress import EpochProgress, duration, tracked
from .seeds import isolated, seeded

__all__ = [
    "ChunkedContrastPlan",
    "EpochProgress",
    "SSLTrainingPlan",
    "View",
    "divide",
    "divided_backward",
    "duration",
    "end_to_end",
    "isolated",
    "joint_terms",
    "seeded",
    "tracked",
    "warmup_cosine",
]
