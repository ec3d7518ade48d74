"""A seed for our own work that leaves the caller's random state as it was."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(random_state: int | np.random.Generator | None) -> Iterator[int | None]:
    """Seed Python, NumPy and torch inside the block and restore their states afterwards.

    Parameters
    ----------
    random_state
        A seed; a generator, from which one is drawn; or ``None`` to run on the caller's random state.

    Yields
    ------
    The seed in use.
    """
    if random_state is None:
        yield None
        return
    seed = int(random_state.integers(2**31) if isinstance(random_state, np.random.Generator) else random_state)
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.manual_seed(seed)
            yield seed
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
