"""The number of threads is the caller's."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def threads_kept() -> Iterator[None]:
    """Around scanpy: its numba kernels set OpenMP's number of threads for the whole process, torch's too.

    Training then runs on threads that wait for each other, on a busy machine up to ten times slower.
    """
    n_threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
