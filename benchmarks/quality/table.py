"""What the command line runs: a benchmark, mostly one table of runs with its page and picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from . import data
from .figures import bars_by_measure
from .page import by_dataset, write_page
from .runs import Run, Runs, chosen, grid, timed

#: does the runs that are missing in a file, and returns all
Fill = Callable[[Runs, Iterable[Run]], pd.DataFrame]
#: decimals of seconds in the CSV
DECIMALS = 3


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What can be run by name on data sets by name.

    Attributes
    ----------
    datasets
        Names of the data sets, where none are given.
    rows
        Rows of the table by name; all are run by default.
    on_demand
        Rows that are run only when they are named.
    needs
        Files in the folders of ``SC_SSL_DATA`` that are read beside the data sets.
    counts
        Are raw counts and cell types needed?
    """

    datasets: tuple[str, ...]
    rows: Mapping[str, Any]
    on_demand: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    counts: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """What ``--methods`` takes."""
        return (*self.rows, *self.on_demand)

    def check(self, datasets: Sequence[str], methods: Sequence[str] | None) -> None:
        """An error unless all that is read is there."""
        data.check(datasets, needs=self.needs, counts=self.counts)

    def run(self, datasets: Sequence[str], n_seeds: int, out: Path, methods: Sequence[str] | None = None) -> None:
        """Do the runs that are missing in the folder, and write its pages and pictures."""
        raise NotImplementedError


def fit_by_seed(row: Callable[[Any, int], Any], prepared: Any, this: Run) -> Any:
    """A row is a function of what was prepared and of a seed."""
    return row(prepared, this["seed"])


def as_returned(result: Any, prepared: Any, this: Run) -> Mapping[str, Any]:
    """A row returns its scores."""
    return result


@dataclass(frozen=True, kw_only=True)
class Table(Benchmark):
    """Runs in ``<name>.csv`` with a page ``<name>.md`` and a picture ``<name>.png``.

    A run prepares its cells, which consecutive runs share, fits its row (this is timed), and evaluates the result.

    Attributes
    ----------
    name
        Stem of the files.
    command
        What follows ``python -m benchmarks.quality``, for the page.
    prepare
        The values of ``shared_by`` → what rows take.
    measures
        Scores on the page and in the picture; a table without any brings lines of its own and has no picture.
    shared_by
        Keys whose values decide what is prepared.
    fit
        A row, what was prepared, and a run → a result.
    evaluate
        The result, what was prepared, and the run → further columns.
    varied
        Further keys and their values.
    is_wanted
        Is this combination to be run?
    keys
        Columns that identify a run, in the order of the CSV file.
    order
        The same, the one that varies slowest first.
    clocks
        ``"seconds"``, ``"processor_seconds"``: columns for the time of ``fit``.
    by
        Columns whose values have a section each on the page; the last one's, a line of panels in the picture.
    title, figure_title
        Headings of these, from the values.
    below
        Further lines of the page.
    note
        Further text after date and versions on the page.
    """

    name: str
    command: str
    prepare: Callable[..., Any]
    measures: tuple[str, ...] = ()
    shared_by: tuple[str, ...] = ("dataset", "seed")
    fit: Callable[[Any, Any, Run], Any] = fit_by_seed
    evaluate: Callable[[Any, Any, Run], Mapping[str, Any]] = as_returned
    varied: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    is_wanted: Callable[[Run], bool] = lambda this: True
    keys: tuple[str, ...] = ("dataset", "method", "seed")
    order: tuple[str, ...] = ("seed", "dataset", "method")
    clocks: tuple[str, ...] = ("seconds",)
    by: tuple[str, ...] = ("dataset",)
    title: str = "{0}"
    figure_title: str = "{}"
    below: tuple[str, ...] = ()
    note: str = ""

    def run(
        self,
        datasets: Sequence[str],
        n_seeds: int,
        out: Path,
        methods: Sequence[str] | None = None,
        fill: Fill | None = None,
    ) -> None:
        """Do the runs that are missing, one after another or by ``fill``, and write the page and the picture of all."""
        rows = chosen(self.rows, self.on_demand, methods)
        values = {"dataset": datasets, "method": rows, "seed": range(n_seeds), **self.varied}
        wanted = filter(self.is_wanted, grid({key: values[key] for key in self.keys}, self.order))
        file = Runs(out / f"{self.name}.csv", self.keys)
        runs = file.fill(wanted, self.scorer()) if fill is None else fill(file, wanted)
        if len(runs):
            self.show(runs, out)

    def scorer(self) -> Callable[[Run], dict[str, Any]]:
        """What does a run: it keeps what was prepared for the run before."""
        rows = {**self.rows, **self.on_demand}
        prepare = lru_cache(maxsize=1)(self.prepare)
        n_threads = torch.get_num_threads()

        def score(this: Run) -> dict[str, Any]:
            prepared = prepare(*(this[key] for key in self.shared_by))
            # a row before may have called scanpy, whose numba kernels set the number of threads of the whole process
            torch.set_num_threads(n_threads)
            result, taken = timed(self.fit, rows[this["method"]], prepared, this)
            found = dict(self.evaluate(result, prepared, this))
            return found | {clock: round(taken[clock], DECIMALS) for clock in self.clocks}

        return score

    def show(self, runs: pd.DataFrame, out: Path) -> None:
        """Write the page and the picture, rows in the order of the table."""
        runs = runs.sort_values("method", key=pd.Index(self.names).get_indexer_for, kind="stable")
        write_page(out / f"{self.name}.md", self.command, self.lines(runs), runs, note=self.note)
        if self.measures:
            self.draw(runs, out / f"{self.name}.png")

    def lines(self, runs: pd.DataFrame) -> list[str]:
        """The page in Markdown."""
        return [*by_dataset(runs, [*self.measures, *self.clocks], by=list(self.by), title=self.title), *self.below]

    def draw(self, runs: pd.DataFrame, path: Path) -> None:
        """The picture."""
        bars_by_measure(runs, self.measures, path, by=self.by[-1], title=self.figure_title)
