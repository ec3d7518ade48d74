"""Tasks of Richter et al. (2024) on small data, one file each."""

from benchmarks.quality.table import Table

from . import annotation, integration, neighbours, proteins, reconstruction, transfer

TASKS = {
    "knn": neighbours.benchmark,
    "annotation": annotation.benchmark,
    "transfer": transfer.benchmark,
    "reconstruction": reconstruction.benchmark,
    "integration": integration.benchmark,
    "protein": proteins.benchmark,
}


def benchmark(*, task: str) -> Table:
    """What the command line runs."""
    return TASKS[task]()
