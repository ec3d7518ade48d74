"""How a model is optimised: the training plan, schedules and seeds."""

from .plan import SSLTrainingPlan
from .schedules import warmup_cosine
from .seeds import seeded

__all__ = ["SSLTrainingPlan", "seeded", "warmup_cosine"]
