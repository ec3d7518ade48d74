"""What the CellLM paper claims, on small data: ``--task`` names the claim."""

from benchmarks.quality.table import Benchmark

from . import annotation, cost, drug_lines, drug_sc, ppi, pretrain

TASKS = {
    "pretrain": pretrain.benchmark,
    "annotation": annotation.benchmark,
    "dnc": cost.benchmark,
    "drug_sc": drug_sc.benchmark,
    "drug_lines": drug_lines.benchmark,
    "ppi": ppi.benchmark,
}


def benchmark(*, task: str, response: tuple[str, str] = drug_sc.RESPONSE) -> Benchmark:
    """What the command line runs."""
    return drug_sc.benchmark(response) if task == "drug_sc" else TASKS[task]()
