"""Tasks of Richter et al. (2024) on small data, one file each."""

from . import annotation, integration, neighbours, proteins, reconstruction, transfer
from .task import Task

TASKS = {
    "knn": neighbours.benchmark,
    "annotation": annotation.benchmark,
    "transfer": transfer.benchmark,
    "reconstruction": reconstruction.benchmark,
    "integration": integration.benchmark,
    "protein": proteins.benchmark,
}


def benchmark(*, task: str) -> Task:
    """What the command line runs."""
    return TASKS[task]()
