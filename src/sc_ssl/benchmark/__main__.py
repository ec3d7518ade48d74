"""``python -m sc_ssl.benchmark NAME --out DIR``."""

import argparse
import logging
import sys
from importlib import import_module
from pathlib import Path

BENCHMARKS = ("clustering", "n_clusters", "richter", "speed")


def main(arguments: list[str] | None = None) -> int:
    """Run a benchmark; what is in the output folder already is not run again."""
    parser = argparse.ArgumentParser("python -m sc_ssl.benchmark", description=__doc__)
    parser.add_argument("name", choices=BENCHMARKS)
    parser.add_argument(
        "--datasets", nargs="+", help="names in sc_ssl.datasets, or of h5ad files (default: those of the benchmark)"
    )
    parser.add_argument("--methods", nargs="+", help="rows to run (default: all that need no other data set)")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (default: %(default)s)")
    parser.add_argument("--task", help="of a benchmark with several, such as richter: knn or protein")
    parser.add_argument("--out", type=Path, required=True, help="folder for CSV, Markdown and PNG")
    args = parser.parse_args(arguments)
    logging.getLogger("sc_ssl").setLevel(logging.WARNING)
    benchmark = import_module(f"sc_ssl.benchmark.{args.name}")
    tasks = getattr(benchmark, "TASKS", {})
    if args.task is not None and args.task not in tasks:
        parser.error(f"{args.name} has the tasks {', '.join(tasks) or 'none'}, found {args.task!r}")
    task = args.task or next(iter(tasks), None)
    names = args.datasets or list(tasks[task].datasets if task else benchmark.DATASETS)
    benchmark.run(names, args.seeds, args.out, args.methods, **({"task": task} if task else {}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
