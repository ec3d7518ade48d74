"""``python -m sc_ssl.benchmark NAME --out DIR``."""

import argparse
import logging
import sys
from importlib import import_module
from pathlib import Path

BENCHMARKS = ("clustering", "n_clusters", "scpretrain", "speed")


def main(arguments: list[str] | None = None) -> int:
    """Run a benchmark; what is in the output folder already is not run again."""
    parser = argparse.ArgumentParser("python -m sc_ssl.benchmark", description=__doc__)
    parser.add_argument("name", choices=BENCHMARKS)
    parser.add_argument(
        "--datasets", nargs="+", help="names in sc_ssl.datasets, or of h5ad files (default: those of the benchmark)"
    )
    parser.add_argument("--methods", nargs="+", help="rows to run (default: all that need no other data set)")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder for CSV, Markdown and PNG")
    args = parser.parse_args(arguments)
    logging.getLogger("sc_ssl").setLevel(logging.WARNING)
    benchmark = import_module(f"sc_ssl.benchmark.{args.name}")
    benchmark.run(args.datasets or list(benchmark.DATASETS), args.seeds, args.out, args.methods)
    return 0


if __name__ == "__main__":
    sys.exit(main())
