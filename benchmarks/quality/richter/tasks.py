"""Tasks of Richter et al. (2024) on small data, one file each."""

from __future__ import annotations

import time
from pathlib import Path

from sc_ssl.benchmark._runs import Runs, asked_for, every

from . import annotation, integration, neighbours, page, proteins, reconstruction, transfer
from ._task import Task

KEYS = ("dataset", "method", "seed")
TASKS: dict[str, Task] = {
    "knn": neighbours.TASK,
    "annotation": annotation.TASK,
    "transfer": transfer.TASK,
    "reconstruction": reconstruction.TASK,
    "integration": integration.TASK,
    "protein": proteins.TASK,
}
DATASETS = {name: task.datasets for name, task in TASKS.items()}


def run(names: list[str], n_seeds: int, out: Path, methods: list[str] | None = None, *, task: str = "knn") -> None:
    """Do the runs of a task that are missing in ``out/richter_<task>.csv``; write Markdown and a picture beside it."""
    what = TASKS[task]
    runs = Runs(out / f"richter_{task}.csv", KEYS)
    rows_of = asked_for(what.rows, what.on_demand, methods)
    prepared, of = None, None
    for this in runs.missing(every(names, n_seeds, rows_of, methods)):
        name, seed = this["dataset"], this["seed"]
        if of != (name, seed):
            of, prepared = (name, seed), what.prepare(name, seed)
        start = time.perf_counter()
        scores = rows_of[this["method"]](prepared, seed)
        runs.add(this | scores | {"seconds": round(time.perf_counter() - start, 1)})
    table = runs.table().sort_values("method", key=lambda row: row.map(rows(task).index), kind="stable")
    (out / f"richter_{task}.md").write_text(page.text(table, what, task))
    page.draw(table, what.measures[0], out / f"richter_{task}.png")


def rows(task: str) -> tuple[str, ...]:
    """What ``--methods`` takes."""
    return (*TASKS[task].rows, *TASKS[task].on_demand)
