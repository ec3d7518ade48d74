"""What a task consists of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: what the task prepared and a seed to scores
Row = Callable[[Any, int], dict[str, float]]


@dataclass(frozen=True)
class Task:
    """A task of the paper: its data, rows and measures.

    Attributes
    ----------
    datasets
        Names of the data sets.
    prepare
        A data set's name and a seed to what its rows take, the same for all of them.
    rows
        Run by default.
    measures
        What the page shows of the scores; the first is drawn.
    published
        The paper's number by row and measure.
    note
        What the paper's numbers are of.
    on_demand
        Rows that are run only when they are asked for by name.
    base
        The row that the others are compared with over data sets and seeds, if there is one.
    """

    datasets: tuple[str, ...]
    prepare: Callable[[str, int], Any]
    rows: Mapping[str, Row]
    measures: tuple[str, ...]
    published: Mapping[str, Mapping[str, float]]
    note: str
    on_demand: Mapping[str, Row] = field(default_factory=dict)
    base: str | None = None
