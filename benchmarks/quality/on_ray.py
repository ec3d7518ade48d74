"""Runs of a table as tasks of a Ray cluster, with the same CSV file as one after another."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from .runs import Run, Runs

#: what makes rows and data known to a worker: the module of a benchmark, and the options of its command
Name = tuple[str, tuple[tuple[str, Any], ...]]
#: the checkout, which the nodes of a cluster see under the same path
TOP = str(Path(__file__).parents[2])


def fill(runs: Runs, wanted: Iterable[Run], name: Name, *, address: str | None) -> pd.DataFrame:
    """Score the wanted runs that are missing, each as a task of one CPU; all finished runs.

    Parameters
    ----------
    runs
        The CSV file, which this process alone writes: a run is appended when it is finished, in whatever order.
    wanted
        Runs.
    name
        Of the benchmark.
    address
        Of a cluster whose nodes see this checkout and ``SC_SSL_DATA`` under the same paths; ``None``: a cluster of this machine's
        CPUs.

    Raises
    ------
    ImportError
        Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError('--ray needs Ray: pip install "ray>=2.40".') from error
    todo = runs.todo(wanted)
    variables = {key: os.environ[key] for key in ("SC_SSL_DATA", "OMP_NUM_THREADS") if key in os.environ}
    started = not ray.is_initialized()
    if started:
        environment = {"env_vars": variables | {"PYTHONPATH": os.pathsep.join([TOP, os.environ.get("PYTHONPATH", "")])}}
        ray.init(address=address, runtime_env=environment, log_to_driver=False, include_dashboard=False)
    waiting: dict[Any, Run] = {}
    try:
        task = ray.remote(num_cpus=1)(score)
        waiting = {task.remote(name, run): run for run in todo}
        with tqdm(total=len(todo), desc=runs.path.stem, unit="run", disable=not todo) as bar:
            while waiting:
                (done,), _ = ray.wait(list(waiting))
                run = waiting.pop(done)
                runs.add(run | ray.get(done))
                bar.set_postfix_str(" ".join(str(run[key]) for key in runs.keys))
                bar.update()
    finally:  # also when a run fails: what is finished is in the file
        for reference in waiting:
            ray.cancel(reference, force=True)
        if started:
            ray.shutdown()
    return runs.table()


def score(name: Name, this: Run) -> Mapping[str, Any]:
    """Do a run, in a worker that keeps what it prepared for the next one."""
    return _scorer(name)(this)


@lru_cache(maxsize=1)
def _scorer(name: Name) -> Any:
    module, options = name
    return import_module(f"benchmarks.quality.{module}").benchmark(**dict(options)).scorer()
