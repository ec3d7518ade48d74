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


@contextmanager
def replayed(seed: int, *counter: int) -> Iterator[None]:
    """Torch's random numbers inside the block follow from the seed and the counters alone; the state comes back.

    Parameters
    ----------
    seed
        In [0, 2⁶²).
    *counter
        Which of the blocks under this seed, each ≥ 0.
    """
    for count in counter:  # a multiplicative hash (Knuth), so that neighbouring counters give unrelated seeds
        seed = ((seed ^ (count + 1)) * 6364136223846793005 + 1442695040888963407) % 2**63
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
