"""``python -m benchmarks.quality NAME --out DIR``, from the top of a checkout."""

import argparse
import logging
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

from . import on_ray
from .table import Table

#: value of ``--ray`` without an address
LOCAL = "local"
#: name → the module whose ``benchmark`` takes the options of that name
BENCHMARKS = {
    "celllm": "celllm.tasks",
    "cluster_seeds": "clustering.seeds",
    "clustering": "clustering.table",
    "encoder": "scpretrain.encoder",
    "explain": "explain.table",
    "integration": "integration.table",
    "leave_one_out": "clustering.leave_one_out",
    "low_counts": "clustering.low_counts",
    "map_query": "integration.query",
    "mapping": "integration.mapping",
    "masksc": "masksc.paper",
    "n_clusters": "clustering.n_clusters",
    "richter": "richter.tasks",
    "scpretrain": "scpretrain.annotation",
    "scpretrain_cost": "scpretrain.cost",
    "speed": "speed",
}
CELLLM_TASKS = ("pretrain", "annotation", "dnc", "drug_sc", "drug_lines", "ppi")
RICHTER_TASKS = ("knn", "annotation", "transfer", "reconstruction", "integration", "protein")
COMMON = ("name", "datasets", "seeds", "out", "methods", "ray")


def main(arguments: list[str] | None = None) -> int:
    """Run a benchmark; runs that are in the output folder already are not repeated."""
    parser = _parser()
    args = parser.parse_args(arguments)
    if args.seeds < 1:
        parser.error(f"--seeds is at least 1, found {args.seeds}.")
    options = {option: value for option, value in vars(args).items() if option not in COMMON}
    benchmark = import_module(f"benchmarks.quality.{BENCHMARKS[args.name]}").benchmark(**options)
    elsewhere = {}
    if args.ray is not None:
        if not isinstance(benchmark, Table):
            parser.error(f"{args.name} is no single table of runs; leave out --ray.")
        name = (BENCHMARKS[args.name], tuple(options.items()))
        elsewhere = {"fill": partial(on_ray.fill, name=name, address=None if args.ray == LOCAL else args.ray)}
    names = args.datasets or list(benchmark.datasets)
    outside = [name for name in names if Path(name).name != name or name in ("", ".", "..")]
    if outside:
        parser.error(f"data sets are named by the stem of a file in SC_SSL_DATA, found {outside[0]!r}.")
    unknown = sorted(set(args.methods or ()) - set(benchmark.names))
    if unknown:
        parser.error(f"no row is named {'; '.join(unknown)}. There are: {'; '.join(benchmark.names)}.")
    try:  # before anything is trained
        benchmark.check(names, args.methods)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    logger = logging.getLogger("sc_ssl")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        benchmark.run(names, args.seeds, args.out, args.methods, **elsewhere)
    except ImportError as error:
        parser.error(str(error))
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
    common.add_argument(
        "--ray",
        nargs="?",
        const=LOCAL,
        metavar="ADDRESS",
        help="do runs as tasks of the Ray cluster at this address, by default of one on this machine",
    )
    common.add_argument("--out", type=Path, required=True, help="folder for CSV, Markdown and PNG")
    parser = argparse.ArgumentParser("python -m benchmarks.quality", description=__doc__)
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
