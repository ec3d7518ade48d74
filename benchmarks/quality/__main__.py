"""``python -m sc_ssl.benchmark NAME --out DIR``."""

import argparse
import logging
import sys
from importlib import import_module
from pathlib import Path

from ._data import check

BENCHMARKS = (
    "celllm", "clustering", "encoder", "masksc", "n_clusters", "richter", "scpretrain", "scpretrain_cost", "speed"
)  # fmt: skip
CELLLM_TASKS = ("pretrain", "annotation", "dnc", "drug_sc", "drug_lines", "ppi")
RICHTER_TASKS = ("knn", "annotation", "transfer", "reconstruction", "integration", "protein")


def main(arguments: list[str] | None = None) -> int:
    """Run a benchmark; what is in the output folder already is not run again."""
    parser = _parser()
    args = parser.parse_args(arguments)
    if args.seeds < 1:
        parser.error(f"--seeds is at least 1, found {args.seeds}.")
    benchmark = import_module(f"sc_ssl.benchmark.{args.name}")
    common = {"name", "datasets", "seeds", "out", "methods"}
    options = {option: value for option, value in vars(args).items() if option not in common}
    datasets = benchmark.DATASETS
    names = args.datasets or list(datasets[args.task] if isinstance(datasets, dict) else datasets)
    of_task = {"task": args.task} if "task" in args else {}
    rows = benchmark.rows(**of_task)
    unknown = sorted(set(args.methods or ()) - set(rows))
    if unknown:
        parser.error(f"no row is named {'; '.join(unknown)}. There are: {'; '.join(rows)}.")
    try:  # before anything is trained
        if hasattr(benchmark, "check"):
            benchmark.check(names, args.methods, **options)
        else:
            check(names)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    logger = logging.getLogger("sc_ssl")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        benchmark.run(names, args.seeds, args.out, args.methods, **options)
    finally:
        logger.setLevel(level)
    return 0


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--datasets", nargs="+", help="names in sc_ssl.datasets, or of h5ad files (default: those of the benchmark)"
    )
    common.add_argument(
        "--methods", nargs="+", help="rows to run (default: all that take minutes and need no other data set)"
    )
    common.add_argument("--seeds", type=int, default=5, help="number of seeds (default: %(default)s)")
    common.add_argument("--out", type=Path, required=True, help="folder for CSV, Markdown and PNG")
    parser = argparse.ArgumentParser("python -m sc_ssl.benchmark", description=__doc__)
    benchmarks = parser.add_subparsers(dest="name", required=True, metavar=f"{{{','.join(BENCHMARKS)}}}")
    parsers = {name: benchmarks.add_parser(name, parents=[common]) for name in BENCHMARKS}
    masksc = parsers["masksc"]
    masksc.add_argument("--table", type=int, nargs="+", choices=(1, 2), help="tables of the paper")
    masksc.add_argument("--figure", type=int, nargs="+", choices=(4, 5, 6), help="figures of the paper")
    masksc.add_argument(
        "--quick", action="store_true", help="1,000 cells of each data set, one seed and fewer settings: ten minutes"
    )
    parsers["encoder"].add_argument("--ship", type=Path, help="also train on all sources and write the encoder here")
    richter = parsers["richter"]
    richter.add_argument("--task", choices=RICHTER_TASKS, default="knn", help="task of the paper (%(default)s)")
    celllm = parsers["celllm"]
    celllm.add_argument("--task", choices=CELLLM_TASKS, default="pretrain", help="claim of the paper (%(default)s)")
    celllm.add_argument(
        "--response",
        nargs=2,
        metavar=("KEY", "RESISTANT"),
        default=("drug_response", "resistant"),
        help="drug_sc: column of obs with the cells' response, and its value for resistant ones (drug_response resistant)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
