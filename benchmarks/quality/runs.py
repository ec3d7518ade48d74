"""Finished runs of a table, one CSV row each: a run that is there already is not repeated."""

import csv
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from tqdm import tqdm

T = TypeVar("T")
#: values of the columns that identify a run
Run = dict[str, Any]


class Runs:
    """A CSV file of finished runs, identified by the values of ``keys``.

    Parameters
    ----------
    path
        The file; it is created with the first run, and a later start resumes from it.
    keys
        Names of the columns that identify a run.
    """

    def __init__(self, path: Path, keys: Sequence[str]) -> None:
        self.path = path
        self.keys = tuple(keys)
        path.parent.mkdir(parents=True, exist_ok=True)

    def table(self) -> pd.DataFrame:
        """All finished runs."""
        if not self.path.exists():
            return pd.DataFrame(columns=list(self.keys))
        self._cut_torn()
        return pd.read_csv(self.path)

    def _cut_torn(self) -> None:
        """Remove a last line without an end: a run that was killed while it was written is not finished."""
        whole = self.path.read_bytes()
        kept = whole[: whole.rfind(b"\n") + 1]
        if kept == whole:
            return
        if not kept:  # not even the names of the columns
            self.path.unlink()
            return
        beside = self.path.with_name(f"{self.path.name}.tmp")
        beside.write_bytes(kept)
        beside.replace(self.path)

    def fill(self, wanted: Iterable[Run], score: Callable[[Run], Mapping[str, Any]]) -> pd.DataFrame:
        """Score the wanted runs that are missing; all finished runs."""
        for this in self.missing(wanted):
            self.add(this | dict(score(this)))
        return self.table()

    def todo(self, wanted: Iterable[Run]) -> list[Run]:
        """The wanted runs that are not finished."""
        done = {tuple(map(str, row)) for row in self.table()[list(self.keys)].itertuples(index=False)}
        return [run for run in wanted if tuple(str(run[key]) for key in self.keys) not in done]

    def missing(self, wanted: Iterable[Run]) -> Iterator[Run]:
        """The same one after the other, with a progress bar that names the current one."""
        todo = self.todo(wanted)
        with tqdm(todo, desc=self.path.stem, unit="run", disable=not todo) as bar:
            for run in bar:
                bar.set_postfix_str(" ".join(str(run[key]) for key in self.keys))
                yield run

    def add(self, run: Run) -> None:
        """Append a run, under the columns of the file; it is on disk when this returns."""
        columns = list(run)
        if self.path.exists():
            self._cut_torn()
        if self.path.exists():
            columns = list(pd.read_csv(self.path, nrows=0).columns)
            unknown = [column for column in run if column not in columns]
            if unknown:
                raise ValueError(
                    f"{self.path} has the columns {', '.join(columns)}, but the run has {unknown[0]!r} too."
                )
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=columns)
            if new:
                writer.writeheader()
            writer.writerow(run)
            file.flush()
            os.fsync(file.fileno())


def grid(values: Mapping[str, Iterable[Any]], order: Sequence[str] | None = None) -> list[Run]:
    """Each combination of these values; along ``order`` the first key varies slowest."""
    order = tuple(order or values)
    combined = (dict(zip(order, found, strict=True)) for found in product(*(list(values[key]) for key in order)))
    return [{key: run[key] for key in values} for run in combined]


def chosen(rows: Mapping[str, T], on_demand: Mapping[str, T], methods: Sequence[str] | None) -> dict[str, T]:
    """The rows that are run by default, or those of all that are named."""
    if methods is None:
        return dict(rows)
    return {name: row for name, row in {**rows, **on_demand}.items() if name in methods}


def timed(function: Callable[..., T], *arguments: Any) -> tuple[T, dict[str, float]]:
    """What a function returns, and the wall-clock ``seconds`` and ``processor_seconds`` that it takes."""
    wall, processor = time.perf_counter(), time.process_time()
    found = function(*arguments)
    taken = {"seconds": time.perf_counter() - wall, "processor_seconds": time.process_time() - processor}
    return found, taken


def kept(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array in this file; where there is none, it is computed and saved first."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npy")
        np.save(part, make())
        part.replace(path)  # a run that is killed while it writes leaves no half array
    return np.load(path)
