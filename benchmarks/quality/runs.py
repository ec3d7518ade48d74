"""Runs of a table, one CSV row each: a run that is there already is not done again."""

import csv
import datetime
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

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
        """The wanted runs that are not there yet, with a bar that says which one is on and how much time is left."""
        done = {tuple(map(str, row)) for row in self.table()[list(self.keys)].itertuples(index=False)}
        todo = [run for run in wanted if tuple(str(run[key]) for key in self.keys) not in done]
        with tqdm(todo, desc=self.path.stem, unit="run", disable=not todo) as bar:
            for run in bar:
                bar.set_postfix_str(" ".join(str(run[key]) for key in self.keys))
                yield run

    def add(self, run: dict[str, Any]) -> None:
        """Append a run; it is on disk when this returns."""
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(run))
            if new:
                writer.writeheader()
            writer.writerow(run)


def every(
    names: Sequence[str], n_seeds: int, rows: Iterable[str], methods: list[str] | None = None
) -> list[dict[str, Any]]:
    """Each data set with each row, or with those named, and each seed; the first seed of all comes first."""
    rows = [row for row in rows if methods is None or row in methods]
    return [{"dataset": name, "method": row, "seed": seed} for seed in range(n_seeds) for name in names for row in rows]


def asked_for(rows: Mapping[str, Any], on_demand: Mapping[str, Any], methods: Sequence[str] | None) -> dict[str, Any]:
    """The rows, and of those on demand the ones that are named."""
    return dict(rows) | {name: row for name, row in on_demand.items() if name in (methods or ())}


def kept(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array in this file; where there is none, it is made and saved first."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npy")
        np.save(part, make())
        part.replace(path)  # a run that is killed while it writes leaves no half array
    return np.load(path)


def provenance() -> str:
    """Date, Python and package versions, in a line."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    return f"{datetime.date.today().isoformat()}; Python {platform.python_version()}, {versions}"


def mean_sd(values: pd.Series) -> str:
    """``mean ± sd`` over seeds; nothing where it is not defined."""
    if values.isna().all():
        return ""
    return f"{values.mean():.3f} ± {values.std(ddof=0):.3f}" if len(values) > 1 else f"{values.mean():.3f}"


def markdown(table: pd.DataFrame, index: str) -> list[str]:
    """Lines of a Markdown table, floats with three digits; ``index`` heads the column of row names."""

    def text(value: object) -> str:
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    rows = [f"| {name} | " + " | ".join(map(text, row)) + " |" for name, *row in table.itertuples()]
    return [f"| {index} | " + " | ".join(map(str, table.columns)) + " |", "|---" * (1 + table.shape[1]) + "|", *rows]


def page(
    runs: pd.DataFrame,
    command: str,
    measures: Sequence[str],
    *,
    by: str | list[str] = "dataset",
    title: str = "{0}",
    below: Sequence[str] = (),
) -> str:
    """A page in Markdown: who wrote it, a table rows × measures for each data set or value of ``by``, and more lines."""
    seeds = ", ".join(map(str, sorted(runs["seed"].unique())))
    lines = [f"<!-- written by python -m sc_ssl.benchmark {command} -->\n{provenance()}; seeds {seeds}."]
    for key, group in runs.groupby(by, sort=False):
        heading = title.format(*(key if isinstance(key, tuple) else (key,)))
        by_row = group.groupby("method", sort=False)[list(measures)].agg(mean_sd)
        lines += [f"\n### {heading}\n", *markdown(by_row, "row")]
    return "\n".join([*lines, *below]) + "\n"
