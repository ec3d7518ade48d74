"""What the CellLM paper claims, on small data: ``--task`` says which claim."""

from __future__ import annotations

from pathlib import Path

from . import _celllm_annotation, _celllm_cost, _celllm_pretrain, _drug_lines, _drug_sc, _ppi

TASKS = {
    "pretrain": _celllm_pretrain,
    "annotation": _celllm_annotation,
    "dnc": _celllm_cost,
    "drug_sc": _drug_sc,
    "drug_lines": _drug_lines,
    "ppi": _ppi,
}
DATASETS = {name: task.DATASETS for name, task in TASKS.items()}


def rows() -> tuple[str, ...]:
    """What ``--methods`` takes, of all tasks."""
    return tuple(dict.fromkeys(row for task in TASKS.values() for row in task.ROWS))


def run(names: list[str], n_seeds: int, out: Path, methods: list[str] | None = None, *, task: str) -> None:
    """Do the runs of a task that are missing, and write its tables and picture."""
    TASKS[task].run(names, n_seeds, out, methods)
