"""A task's runs as Markdown tables and a picture."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sc_ssl.benchmark._runs import markdown, mean_sd, provenance
from sc_ssl.metrics import paired_compare

from ._task import Task

#: with more data sets than this each is a line of the table, and no column
MANY_DATASETS = 6


def text(runs: pd.DataFrame, task: Task, name: str) -> str:
    """A table for each measure, rows × data sets of ``mean ± sd``, the paper's number last; transposed where that is wide."""
    seeds = ", ".join(map(str, sorted(runs["seed"].unique())))
    lines = [
        f"<!-- written by python -m sc_ssl.benchmark richter --task {name} -->\n{provenance()}; seeds {seeds}. The "
        f"numbers under `paper` are of other data: encoders trained on 20 million cells, {task.note}.\n"
    ]
    for measure in task.measures:
        table, heading = _table(runs, measure, task.published), "row"
        if "mean" in table:
            table, heading = table.T, "data set"
        lines += [f"\n### {measure}\n", *markdown(table, heading)]
        compared = _compared(runs, measure, task.base if measure != "seconds" else None)
        if len(compared):
            lines += [
                f"\n`{measure}` against `{task.base}`, over data sets, each the mean of its seeds: mean difference with its 95 % "
                "interval, p of Wilcoxon's signed-rank test, share won.\n",
                *markdown(compared, "row"),
            ]
    return "\n".join(lines) + "\n"


def _table(runs: pd.DataFrame, measure: str, published: dict[str, dict[str, float]]) -> pd.DataFrame:
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


def _compared(runs: pd.DataFrame, measure: str, base: str | None) -> pd.DataFrame:
    """Each row against one, on the seeds that both have, averaged in each data set, where these are at least two."""
    wide = runs.pivot_table(index=["dataset", "seed"], columns="method", values=measure)
    found = {}
    for row in (row for row in runs["method"].unique() if row != base and {row, base} <= set(wide)):
        both = wide[[row, base]].dropna().groupby("dataset").mean()
        if len(both) > 1:
            result = paired_compare(both[row], both[base])
            found[row] = {
                "difference": f"{result['difference']:+.3f} ({result['low']:+.3f} to {result['high']:+.3f})",
                "p": f"{result['p_value']:.2g}",
                "won": f"{result['won']:.0%}",
                "data sets": f"{result['n']:.0f}",
            }
    return pd.DataFrame.from_dict(found, orient="index", columns=["difference", "p", "won", "data sets"])


def draw(runs: pd.DataFrame, measure: str, path: Path) -> None:
    """One panel a data set, a bar a row that most of them have, a dot a seed."""
    from matplotlib.figure import Figure

    runs = runs.dropna(subset=[measure])
    names, n_with = list(runs["dataset"].unique()), runs.groupby("method")["dataset"].nunique()
    rows = [row for row in runs["method"].unique()[::-1] if n_with[row] > len(names) / 2]
    low = min(0.0, runs.loc[runs["method"].isin(rows), measure].min())
    n_columns = min(len(names), 5)
    n_lines = -(-len(names) // n_columns)
    size = 1.5 + 2.6 * n_columns, n_lines * (0.34 * len(rows) + 1)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(n_lines, n_columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in panels[len(names) :]:
        axes.remove()
    for axes, name in zip(panels, names, strict=False):
        of_name = runs[runs["dataset"] == name]
        for position, row in enumerate(rows):
            values = of_name.loc[of_name["method"] == row, measure]
            axes.barh(position, values.mean(), color="C0", alpha=0.5)
            axes.plot(values, [position] * len(values), ".", color="C0", markersize=4)
        axes.set_title(name, fontsize="medium")
        axes.set(xlabel=measure, xlim=(low, 1), yticks=range(len(rows)), yticklabels=rows)
        axes.tick_params(labelbottom=True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
