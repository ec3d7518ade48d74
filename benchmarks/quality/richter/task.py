"""What the tasks of Richter et al. (2024) share: a page beside the paper's numbers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.quality.figures import bars_by_dataset
from benchmarks.quality.page import by_measure
from benchmarks.quality.table import Table

#: what the task prepared and a seed → scores
Row = Callable[[Any, int], dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Task(Table):
    """A task of the paper; the first of its measures is drawn.

    Attributes
    ----------
    published
        The paper's number by row and measure.
    base
        The row that the others are compared with over data sets and seeds, if there is one.
    """

    published: Mapping[str, Mapping[str, float]]
    base: str | None = None

    def lines(self, runs: pd.DataFrame) -> list[str]:
        """A table for each measure."""
        return by_measure(runs, self.measures, self.published, self.base)

    def draw(self, runs: pd.DataFrame, path: Path) -> None:
        """A panel for each data set."""
        bars_by_dataset(runs, self.measures[0], path)


def task(name: str, *, note: str, **options: Any) -> Task:
    """A task as ``--task`` names it; ``note`` describes the data of the paper's numbers."""
    note = f"The numbers under `paper` are of other data: encoders trained on 20 million cells, {note}."
    return Task(name=f"richter_{name}", command=f"richter --task {name}", note=note, **options)
