"""What the tasks of Richter et al. (2024) share: the page beside the paper's numbers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.quality.figures import bars_by_dataset
from benchmarks.quality.page import by_measure
from benchmarks.quality.table import Table

#: what the task prepared and a seed → scores
Row = Callable[[Any, int], dict[str, float]]


def task(
    name: str,
    *,
    measures: Sequence[str],
    published: Mapping[str, Mapping[str, float]],
    note: str,
    base: str | None = None,
    **options: Any,
) -> Table:
    """A table of a task of the paper.

    Parameters
    ----------
    name
        As ``--task`` takes it.
    measures
        Columns of the scores that the page shows; the first is drawn.
    published
        The paper's number by row and measure.
    note
        What the paper's numbers are of.
    base
        The row that the others are compared with over data sets and seeds, if there is one.
    **options
        Further attributes of :class:`Table`.
    """
    return Table(
        name=f"richter_{name}",
        command=f"richter --task {name}",
        lines=lambda runs: by_measure(runs, measures, published, base),
        draw=lambda runs, path: bars_by_dataset(runs, measures[0], path),
        note="The numbers under `paper` are of other data: encoders trained on 20 million cells, " + note + ".",
        **options,
    )
