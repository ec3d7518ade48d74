"""How a model is optimised: the training plan, divided minibatches, schedules and seeds."""

from .chunked_contrast import ChunkedContrastPlan, View, divide, divided_backward, end_to_end
from .plan import SSLTrainingPlan
from .schedules import warmup_cosine
from .seeds import replayed, seeded

__all__ = [
    "ChunkedContrastPlan",
    "SSLTrainingPlan",
    "View",
    "divide",
    "divided_backward",
    "end_to_end",
    "replayed",
    "seeded",
    "warmup_cosine",
]
