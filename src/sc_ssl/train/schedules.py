"""Learning-rate schedules, as factors of the base rate."""

import math


def warmup_cosine(step: int, *, n_steps: int, warmup_rate: float) -> float:
    """Linear rise over the first ``warmup_rate`` of the steps, then half a cosine down to 0."""
    n_warmup = warmup_rate * n_steps
    if step < n_warmup:
        return (step + 1) / (n_warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - n_warmup) / max(n_steps - n_warmup, 1)))
