"""Our own work leaves what belongs to the whole process as the caller had it: random state, default dtype, cuDNN."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

#: random states are those of the process: two trainings at a time would draw from each other's
_ALONE = threading.RLock()


@contextmanager
def isolated() -> Iterator[None]:
    """One block at a time in the process, in single precision; what it sets for the process is set back afterwards.

    Models are single precision whatever torch's default dtype is. Calls in other threads wait.
    """
    with _ALONE:
        dtype = torch.get_default_dtype()
        cudnn = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
        deterministic = torch.are_deterministic_algorithms_enabled()
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = cudnn
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


@contextmanager
def seeded(random_state: int | np.random.Generator | None) -> Iterator[int | None]:
    """Seed Python, NumPy and torch inside the block and restore their states afterwards; :func:`isolated`.

    Parameters
    ----------
    random_state
        A seed; a generator, from which one is drawn; or ``None`` to run on the caller's random state.

    Yields
    ------
    The seed in use.
    """
    if random_state is None:
        with isolated():
            yield None
        return
    seed = int(random_state.integers(2**31) if isinstance(random_state, np.random.Generator) else random_state)
    with isolated():
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
