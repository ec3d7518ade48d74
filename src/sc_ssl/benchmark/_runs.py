"""Runs of a table, one CSV row each: a run that is there already is not done again."""

import csv
import datetime
import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

PACKAGES = ("sc_ssl", "scvi-tools", "torch", "scanpy", "anndata", "scikit-learn", "numpy")


class Runs:
    """A CSV file of finished runs, identified by the values of ``keys``.

    Parameters
    ----------
    path
        The file; it is made with the first run, and a later start goes on from what it holds.
    keys
        Names of the columns that identify a run.
    """

    def __init__(self, path: Path, keys: tuple[str, ...]) -> None:
        self.path = path
        self.keys = keys
        path.parent.mkdir(parents=True, exist_ok=True)

    def table(self) -> pd.DataFrame:
        """All finished runs."""
        return pd.read_csv(self.path) if self.path.exists() else pd.DataFrame(columns=list(self.keys))

    def missing(self, wanted: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The wanted runs that are not there yet, with a line of progress each."""
        done = {tuple(map(str, row)) for row in self.table()[list(self.keys)].itertuples(index=False)}
        todo = [run for run in wanted if tuple(str(run[key]) for key in self.keys) not in done]
        for i, run in enumerate(todo):
            print(f"[{i + 1}/{len(todo)}] {' '.join(str(run[key]) for key in self.keys)}", file=sys.stderr, flush=True)
            yield run

    def add(self, run: dict[str, Any]) -> None:
        """Append a run; it is on disk when this returns."""
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(run))
            if new:
                writer.writeheader()
            writer.writerow(run)


def provenance() -> str:
    """Date, Python and package versions, in a line."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    return f"{datetime.date.today().isoformat()}; Python {platform.python_version()}, {versions}"


def mean_sd(values: pd.Series) -> str:
    """``mean ± sd`` over seeds."""
    return f"{values.mean():.3f} ± {values.std(ddof=0):.3f}" if len(values) > 1 else f"{values.mean():.3f}"
