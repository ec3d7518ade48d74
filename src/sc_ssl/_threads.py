"""Computations have a number of threads of their own, and the caller's is left as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

from . import settings


@contextmanager
def threads_kept() -> Iterator[None]:
    """Around scanpy: its numba kernels set OpenMP's number of threads for the whole process, torch's too."""
    n_threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


@contextmanager
def own_threads() -> Iterator[None]:
    """Around training and embedding: as many threads as ``sc_ssl.settings.n_threads``, of torch and of linear algebra.

    Threads of small networks wait for each other at every layer: on a busy machine, for whole time slices of others.
    And sums are rounded by how they are divided among threads, so that a number of cores would change the result.
    """
    n_threads = settings.n_threads
    if not isinstance(n_threads, int) or n_threads < 1:
        raise ValueError(f"sc_ssl.settings.n_threads is a whole number of at least 1, found {n_threads!r}.")
    with threads_kept(), threadpool_limits(n_threads):
        torch.set_num_threads(n_threads)
        yield
