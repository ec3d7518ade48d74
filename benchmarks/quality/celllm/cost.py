"""``celllm --task dnc``: memory and time of a divided minibatch, and of a cell by the number of genes that it expresses."""

from __future__ import annotations

import time
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from benchmarks.quality.data import load
from benchmarks.quality.embeddings import LIBRARY_SIZE, built
from benchmarks.quality.figures import DPI
from benchmarks.quality.page import markdown, write_page
from benchmarks.quality.runs import Runs, chosen, grid
from benchmarks.quality.table import Benchmark
from sc_ssl.data import CellLoader, Cells
from sc_ssl.nn import Transformer
from sc_ssl.train import divide, divided_backward, end_to_end, seeded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

DATASETS = ("pancreas_baron_mouse",)
MICRO_BATCH_SIZE = 128
BATCH_SIZES = (256, 512, 1024, 2048, 4096)
#: a graph through more cells than this takes gigabytes
MAX_END_TO_END = 1024
#: blocks as wide as the default and as published: width, heads and width of a head
WIDTHS = {"default": (64, 4, 16), "published": (512, 16, 64)}
#: places that the published encoder computes for every cell
PADDED = 6000
N_TOKENS = (250, 500, 1000, 2000, 3000)
ROWS = ("divided", "end to end")


class DividedCost(Benchmark):
    """Two tables of runs, one page: by the size of the minibatch, and by the number of expressed genes."""

    def run(self, datasets: Sequence[str], n_seeds: int, out: Path, methods: Sequence[str] | None = None) -> None:
        """Measure what is missing in ``out/celllm_dnc.csv`` and ``out/celllm_length.csv``; write the page and picture."""
        ways = chosen(self.rows, {}, methods)
        values = {"dataset": datasets, "method": ways, "batch_size": BATCH_SIZES, "seed": range(n_seeds)}
        sizes = [
            this
            for this in grid(values, ("dataset", "seed", "batch_size", "method"))
            if this["method"] == "divided" or this["batch_size"] <= MAX_END_TO_END
        ]
        by_size = Runs(out / "celllm_dnc.csv", list(values)).fill(sizes, lambda this: alone(step_cost, *this.values()))
        kinds = [{"attention": "exact", "n_tokens": t} for t in N_TOKENS]
        kinds += [{"attention": "performer", "n_tokens": PADDED}]
        lengths = [
            {"width": this["width"], **kind, "seed": this["seed"]}
            for this in grid({"seed": range(n_seeds), "width": WIDTHS})
            for kind in kinds
        ]
        runs = Runs(out / "celllm_length.csv", ("width", "attention", "n_tokens", "seed"))
        by_length = runs.fill(lengths, lambda this: {"seconds": block_seconds(**this)})
        write_page(out / "celllm_dnc.md", "celllm --task dnc", _lines(by_size, by_length), by_length)
        _draw(by_size, by_length, out / "celllm_dnc.png")


def benchmark() -> DividedCost:
    """What the command line runs."""
    return DividedCost(datasets=DATASETS, rows=dict.fromkeys(ROWS))


def step_cost(name: str, way: str, n_cells: int, seed: int) -> dict[str, float]:
    """Peak memory of this process and of one step alone (MB), and processor seconds a cell of forward and backward.

    The cells are those of a data set, drawn with replacement; one optimiser step's worth of gradient, no optimiser.
    """
    with built("celllm", load(name), seed) as model, seeded(seed):
        cells = Cells.from_anndata(model.adata, list(model.var_names), library_size_key=LIBRARY_SIZE)
        index = np.random.default_rng(seed).integers(cells.n_cells, size=n_cells)
        module = model.module.train()
        minibatch = next(iter(CellLoader(cells, index, n_cells)))
        before = _reset_peak()
        start = time.process_time()
        _gradient(module, divide(module, minibatch, MICRO_BATCH_SIZE), way, seed)
        seconds = time.process_time() - start
        peak = _memory("VmHWM")
    return {"peak_mb": peak, "step_mb": peak - before, "seconds_per_cell": seconds / n_cells}


def _gradient(module: nn.Module, chunks: Sequence[dict[str, torch.Tensor]], way: str, seed: int) -> None:
    if way == "divided":
        divided_backward(module, chunks, seed)  # type: ignore[arg-type]
    else:
        sum(end_to_end(module, chunks, seed).values()).backward()  # type: ignore[arg-type, union-attr]


def block_seconds(width: str, attention: str, n_tokens: int, seed: int, n_repeats: int = 3) -> float:
    """Processor seconds of forward and backward through one block for one cell with so many tokens; the fastest run."""
    n_hidden, n_heads, head_width = WIDTHS[width]
    with seeded(seed):
        block = Transformer(n_hidden, 1, n_heads, head_width=head_width, attention=attention)
        token_ntd = torch.randn(1, n_tokens, n_hidden)
        seconds = []
        for _ in range(n_repeats):
            start = time.process_time()
            block(token_ntd).sum().backward()
            seconds.append(time.process_time() - start)
    return min(seconds)


def alone(function: Any, *arguments: Any) -> dict[str, float]:
    """Run a function in a process of its own, whose memory nothing else has touched."""
    with get_context("spawn").Pool(1) as pool:
        result: dict[str, float] = pool.apply(function, arguments)
    return result


def _memory(field: str) -> float:
    """Resident memory (``VmRSS``) or its peak (``VmHWM``) in MB, as Linux counts them for this process alone."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def _reset_peak() -> float:
    """Reset the peak; the memory in use now."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _lines(by_size: pd.DataFrame, by_length: pd.DataFrame) -> list[str]:
    """Both tables, with ratios to the smallest divided minibatch and to one graph end to end."""
    lines = []
    mean = by_size.groupby(["dataset", "method", "batch_size"], sort=False).mean(numeric_only=True).drop(columns="seed")
    for name, part in mean.groupby(level="dataset", sort=False):
        table = part.droplevel("dataset").reset_index()
        divided = table[table["method"] == "divided"].set_index("batch_size")
        whole = table[table["method"] == "end to end"].set_index("batch_size")
        for column in ("peak_mb", "step_mb"):
            smallest = divided[column].get(min(BATCH_SIZES), np.nan)
            table[f"{column} / smallest divided"] = table[column] / smallest
        ratio = table["seconds_per_cell"] / table["batch_size"].map(whole["seconds_per_cell"])
        table["time / end to end"] = ratio.map("{:.3f}".format).replace("nan", "")
        table["seconds_per_cell"] = table["seconds_per_cell"].map("{:.2g}".format)
        lines += [f"### {name}, {MICRO_BATCH_SIZE} cells at a time\n", *markdown(table.set_index("method"), "way"), ""]
    seconds = by_length.groupby(["width", "attention", "n_tokens"], sort=False)["seconds"].mean().reset_index()
    padded = seconds[seconds["attention"] == "performer"].set_index("width")["seconds"]
    seconds["performer, padded / this"] = seconds["width"].map(padded) / seconds["seconds"]
    return [
        *lines,
        f"### A block and a cell, against {PADDED:,} padded places\n",
        *markdown(seconds.set_index("width"), "width"),
    ]


def _draw(by_size: pd.DataFrame, by_length: pd.DataFrame, path: Path) -> None:
    """Memory and time by the size of the minibatch, and time by the number of expressed genes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    memory, seconds, length = figure.subplots(1, 3)
    by_way = by_size.groupby(["method", "batch_size"])[["peak_mb", "step_mb", "seconds_per_cell"]].mean().reset_index()
    for i, (way, part) in enumerate(by_way.groupby("method", sort=False)):
        memory.plot(part["batch_size"], part["peak_mb"], "o-", color=f"C{i}", label=f"{way}, process")
        memory.plot(part["batch_size"], part["step_mb"], "o:", color=f"C{i}", label=f"{way}, step alone")
        seconds.plot(part["batch_size"], 1e3 * part["seconds_per_cell"], "o-", color=f"C{i}", label=way)
    sizes, lengths = sorted(by_size["batch_size"].unique()), sorted(by_length["n_tokens"].unique())
    _decorate(memory, sizes, "cells a minibatch", "peak memory, MB")
    _decorate(seconds, sizes, "cells a minibatch", "processor time, ms a cell")
    seconds.set_ylim(0)
    for i, (width, part) in enumerate(by_length.groupby("width", sort=False)):
        exact = part[part["attention"] == "exact"].groupby("n_tokens")["seconds"].mean()
        padded = part.loc[part["attention"] == "performer", "seconds"].mean()
        length.plot(exact.index, exact, "o-", color=f"C{i}", label=f"{width} width, exact")
        length.axhline(padded, color=f"C{i}", linestyle=":", label=f"{width} width, performer on {PADDED:,}")
    _decorate(length, lengths, "expressed genes", "processor time of a block, s a cell")
    figure.savefig(path, dpi=DPI)


def _decorate(axes: Axes, ticks: list[int], x: str, y: str) -> None:
    axes.set(xlabel=x, ylabel=y, xscale="log", yscale="log" if "ms" not in y else "linear")
    axes.set_xticks(ticks, [str(tick) for tick in ticks], fontsize="x-small")
    axes.set_xticks([], minor=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="x-small", loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
