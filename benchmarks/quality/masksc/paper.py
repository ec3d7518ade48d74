"""The mask-sc paper's tables and figures, done again: the paper's numbers beside ours, and what they say."""

from pathlib import Path
from typing import Any

from . import _ablation, _attention_maps, _comparison, _panels, _sweep, clustering
from ._folder import QUICK_CELLS, QUICK_EPOCHS, Folder
from ._runs import provenance

DATASETS = ("pbmc4k", "worm_neuron")
#: number in the paper to what does it
TABLES: dict[int, Any] = {1: _comparison, 2: _ablation}
FIGURES: dict[int, Any] = {4: _panels, 5: _sweep, 6: _attention_maps}


def run(
    names: list[str],
    n_seeds: int,
    out: Path,
    methods: list[str] | None = None,
    *,
    table: list[int] | None = None,
    figure: list[int] | None = None,
    quick: bool = False,
) -> None:
    """Do what is missing of these tables and figures, or of all, and write ``masksc.md`` of all that is there.

    ``methods`` names rows of Table 1. A quick run takes one seed.
    """
    folder = Folder(out, quick=quick)
    everything = table is None and figure is None
    pieces = _pieces(TABLES if everything else table or (), FIGURES if everything else figure or ())
    n_seeds = 1 if quick else n_seeds
    for piece in pieces.values():
        options = {"methods": methods} if piece is _comparison else {}
        piece.fill(folder, names, n_seeds, **options)
    (out / "masksc.md").write_text("\n".join(_page(folder)) + "\n")


def rows() -> tuple[str, ...]:
    """What ``--methods`` takes."""
    return clustering.rows()


def _pieces(tables: Any, figures: Any) -> dict[str, Any]:
    return {f"Table {n}": TABLES[n] for n in tables} | {f"Figure {n}": FIGURES[n] for n in figures}


def _page(folder: Folder) -> list[str]:
    lines = [f"<!-- written by python -m sc_ssl.benchmark masksc -->\n{provenance()}."]
    if folder.quick:
        lines += [
            f"\n**This is the quick run**: {QUICK_CELLS:,} cells of each data set, drawn once, and one seed; Table 2 for "
            f"the first data set, one setting at a time in Figure 5, and {QUICK_EPOCHS} epochs in Table 2 and Figures 5 "
            "and 6. It shows that everything works; its numbers are not those of the whole data."
        ]
    for title, piece in _pieces(TABLES, FIGURES).items():
        if len(folder.table(piece.TABLE)):
            lines += [f"\n## {title}\n", *piece.section(folder)]
    return lines
