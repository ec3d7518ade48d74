"""What the CellLM paper claims, on small data: ``--task`` says which claim."""

from __future__ import annotations

from pathlib import Path

from . import (
    _bulk_to_cells,
    _celllm_annotation,
    _celllm_cost,
    _celllm_pretrain,
    _data,
    _drug_lines,
    _drug_sc,
    _ppi,
    _screen,
)

TASKS = {
    "pretrain": _celllm_pretrain,
    "annotation": _celllm_annotation,
    "dnc": _celllm_cost,
    "drug_sc": _drug_sc,
    "drug_lines": _drug_lines,
    "ppi": _ppi,
}
DATASETS = {name: task.DATASETS for name, task in TASKS.items()}


def rows(task: str) -> tuple[str, ...]:
    """What ``--methods`` takes."""
    return (*TASKS[task].ROWS, *getattr(TASKS[task], "ON_DEMAND", ()))


def check(names: list[str], methods: list[str] | None, *, task: str, response: tuple[str, str]) -> None:
    """An error unless all that a task reads is there."""
    if task == "ppi" and names:
        raise ValueError(f"the task ppi has graphs of its own, found {', '.join(names)}; leave out --datasets.")
    bulk = task == "drug_sc" and set(methods or _bulk_to_cells.ROWS) & set(_bulk_to_cells.ROWS)
    needs = getattr(_bulk_to_cells if bulk else TASKS[task], "NEEDS", ())
    _data.check(names, needs=needs, counts=not task.startswith("drug"))
    if task == "drug_lines":
        for name in names:
            _screen.Screen.read(name)
    if task == "drug_sc":
        for name in names:
            _drug_sc.Cells(_data.load_all(name), *response)


def run(
    names: list[str],
    n_seeds: int,
    out: Path,
    methods: list[str] | None = None,
    *,
    task: str,
    response: tuple[str, str] = _drug_sc.RESPONSE,
) -> None:
    """Do the runs of a task that are missing, and write its tables and picture."""
    options = {"response": response} if task == "drug_sc" else {}
    TASKS[task].run(names, n_seeds, out, methods, **options)
