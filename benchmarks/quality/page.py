"""Pages in Markdown: how every page begins, and the two kinds of tables of runs."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import pandas as pd

from sc_ssl.metrics import paired_compare

COMMAND = "python -m benchmarks.quality"
PACKAGES = ("sc_ssl", "scvi-tools", "torch", "scanpy", "anndata", "scikit-learn", "numpy")
#: with more data sets than this, each is a line of a table and no column
MANY_DATASETS = 6


def write_page(
    path: Path, command: str, lines: Iterable[str], runs: pd.DataFrame | None = None, *, note: str = ""
) -> None:
    """The command that writes the page, date, versions and the seeds of the runs, and then these lines."""
    begin = f"{provenance()}." if runs is None else f"{provenance()}; {seeds(runs)}."
    begin = f"{begin} {note}" if note else begin
    path.write_text("\n".join([f"<!-- written by {COMMAND} {command} -->", begin, "", *lines]) + "\n")


def provenance() -> str:
    """Date, Python and package versions, in a line."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    return f"{datetime.date.today().isoformat()}; Python {platform.python_version()}, {versions}"


def seeds(runs: pd.DataFrame) -> str:
    """The seeds of runs, in words."""
    found = sorted(runs["seed"].unique())
    return f"seed{'s' if len(found) > 1 else ''} {', '.join(map(str, found))}"


def mean_sd(values: pd.Series) -> str:
    """``mean ± sd`` over seeds; nothing where it is not defined."""
    if values.isna().all():
        return ""
    return f"{values.mean():.3f} ± {values.std(ddof=0):.3f}" if len(values) > 1 else f"{values.mean():.3f}"


def markdown(table: pd.DataFrame, index: str) -> list[str]:
    """Lines of a Markdown table, floats with three decimals, NaN empty; ``index`` heads the column of row names."""

    def text(value: object) -> str:
        if isinstance(value, float):
            return "" if value != value else f"{value:.3f}"
        return str(value)

    rows = [f"| {name} | " + " | ".join(map(text, row)) + " |" for name, *row in table.itertuples()]
    return [f"| {index} | " + " | ".join(map(str, table.columns)) + " |", "|---" * (1 + table.shape[1]) + "|", *rows]


def by_dataset(
    runs: pd.DataFrame, measures: Sequence[str], *, by: str | list[str] = "dataset", title: str = "{0}"
) -> list[str]:
    """A table rows × measures of ``mean ± sd`` for each data set, or each value of ``by``."""
    lines = []
    for key, group in runs.groupby(by, sort=False):
        heading = title.format(*(key if isinstance(key, tuple) else (key,)))
        by_row = group.groupby("method", sort=False)[list(measures)].agg(mean_sd)
        lines += [f"### {heading}\n", *markdown(by_row, "row"), ""]
    return lines[:-1]


def by_measure(
    runs: pd.DataFrame,
    measures: Sequence[str],
    published: Mapping[str, Mapping[str, float]],
    base: str | None = None,
) -> list[str]:
    """A table rows × data sets for each measure, the paper's number last; and rows compared with one, ``base``."""
    lines = []
    for measure in measures:
        table, heading = _wide(runs, measure, published), "row"
        if "mean" in table:  # many data sets: one a line
            table, heading = table.T, "data set"
        lines += [f"### {measure}\n", *markdown(table, heading), ""]
        compared = compare(runs, measure, base if measure != "seconds" else None)
        if len(compared):
            lines += [
                f"`{measure}` against `{base}`, over data sets, each the mean of its seeds: mean difference with its 95 % "
                "interval, p of Wilcoxon's signed-rank test, share won.\n",
                *markdown(compared, "row"),
                "",
            ]
    return lines[:-1]


def _wide(runs: pd.DataFrame, measure: str, published: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Rows × data sets; with many data sets also the mean over them, of rows that were run on all."""
    rows, runs = list(runs["method"].unique()), runs.dropna(subset=[measure])
    names = list(runs["dataset"].unique())
    cells = {key: mean_sd(group[measure]) for key, group in runs.groupby(["method", "dataset"])}
    table = pd.DataFrame({name: [cells.get((row, name), "") for row in rows] for name in names}, index=rows)
    if len(names) > MANY_DATASETS:
        mean = runs.groupby(["method", "dataset"])[measure].mean().unstack().reindex(index=rows, columns=names)
        table["mean"] = [f"{x:.3f}" if x == x else "" for x in mean.mean(axis=1, skipna=False)]
    numbers = [published.get(row, {}).get(measure) for row in rows]
    if any(number is not None for number in numbers):
        table["paper"] = ["" if number is None else f"{number:.3f}" for number in numbers]
    return table[(table != "").any(axis=1)]


def compare(runs: pd.DataFrame, measure: str, base: str | None) -> pd.DataFrame:
    """Each row against one, on the seeds that both have, averaged in each data set, where these are at least two."""
    wide = runs.pivot_table(index=["dataset", "seed"], columns="method", values=measure)
    found = {}
    for row in (row for row in runs["method"].unique() if row != base and {row, base} <= set(wide)):
        both = wide[[row, base]].dropna().groupby("dataset").mean()
        if len(both) > 1:
            found[row] = difference(both[row], both[base])
    return pd.DataFrame.from_dict(found, orient="index", columns=["difference", "p", "won", "data sets"])


def difference(ours: pd.Series, base: pd.Series) -> dict[str, str]:
    """A paired comparison as text: mean difference (95 % interval), p, share won, number of pairs."""
    result = paired_compare(ours, base)
    return {
        "difference": f"{result['difference']:+.3f} ({result['low']:+.3f} to {result['high']:+.3f})",
        "p": f"{result['p_value']:.2g}",
        "won": f"{result['won']:.0%}",
        "data sets": f"{result['n']:.0f}",
    }
