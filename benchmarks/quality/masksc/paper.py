"""The mask-sc paper's tables and figures again: the paper's numbers beside ours, and how they compare."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.quality.clustering import methods
from benchmarks.quality.clustering.folder import QUICK_CELLS, QUICK_EPOCHS, Folder
from benchmarks.quality.clustering.table import DATASETS, REFERENCES
from benchmarks.quality.page import write_page
from benchmarks.quality.table import Benchmark

from . import figure_4, figure_5, figure_6, table_1, table_2

#: number in the paper → its file
TABLES: dict[int, Any] = {1: table_1, 2: table_2}
FIGURES: dict[int, Any] = {4: figure_4, 5: figure_5, 6: figure_6}


@dataclass(frozen=True, kw_only=True)
class MaskSCPaper(Benchmark):
    """Tables and figures of the paper, or all; ``--methods`` names rows of Table 1.

    Attributes
    ----------
    tables, figures
        Numbers in the paper; all of both where neither is given.
    quick
        1,000 cells of each data set, one seed and fewer settings.
    """

    tables: Sequence[int] | None = None
    figures: Sequence[int] | None = None
    quick: bool = False

    def run(self, datasets: Sequence[str], n_seeds: int, out: Path, methods: Sequence[str] | None = None) -> None:
        """Do what is missing of these tables and figures, and write ``masksc.md`` of all that is there."""
        folder = Folder(out, quick=self.quick)
        everything = self.tables is None and self.figures is None
        pieces = _pieces(TABLES if everything else self.tables or (), FIGURES if everything else self.figures or ())
        for piece in pieces.values():
            options = {"methods": methods} if piece is table_1 else {}
            piece.fill(folder, datasets, 1 if self.quick else n_seeds, **options)
        write_page(out / "masksc.md", "masksc", _sections(folder))


def benchmark(*, table: list[int] | None = None, figure: list[int] | None = None, quick: bool = False) -> MaskSCPaper:
    """What the command line runs."""
    on_demand = methods.ON_DEMAND | REFERENCES
    rows = methods.METHODS
    return MaskSCPaper(datasets=DATASETS, rows=rows, on_demand=on_demand, tables=table, figures=figure, quick=quick)


def _pieces(tables: Any, figures: Any) -> dict[str, Any]:
    return {f"Table {n}": TABLES[n] for n in tables} | {f"Figure {n}": FIGURES[n] for n in figures}


def _sections(folder: Folder) -> list[str]:
    lines = []
    if folder.quick:
        lines += [
            f"**This is the quick run**: {QUICK_CELLS:,} cells of each data set, drawn once, and one seed; Table 2 for "
            f"the first data set, one setting at a time in Figure 5, and {QUICK_EPOCHS} epochs in Table 2 and Figures 5 "
            "and 6. It shows that everything works; its numbers are not those of the whole data.\n"
        ]
    for title, piece in _pieces(TABLES, FIGURES).items():
        if len(folder.table(piece.TABLE)):
            lines += [f"## {title}\n", *piece.section(folder), ""]
    return lines
