"""``kill -9`` at random moments: what was on the disk stays, or is replaced by all of the new.

Run by ``python -m pytest -m slow tests/crash``; each test kills a process many times.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from sc_ssl import models
from sc_ssl.__main__ import _read

pytestmark = pytest.mark.slow
N_KILLS = 50
HERE = Path(__file__).parents[1]
BEFORE = f"""
import sys
sys.path[:0] = [{str(HERE)!r}, {str(HERE.parent)!r}]
import warnings; warnings.simplefilter("ignore")
from conftest import make_counts
from sc_ssl import models, tl
import torch
QUICK = {{"enable_progress_bar": False, "accelerator": "cpu"}}
"""


def start(script: str, *arguments: object) -> subprocess.Popen:
    """A process that has printed ``ready`` when this returns."""
    process = subprocess.Popen(
        [sys.executable, "-c", BEFORE + script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while "ready" not in (line := process.stdout.readline()):
        assert line, process.stderr.read()
    return process


def killed(script: str, *arguments: object, within: float, rng: random.Random) -> None:
    """Kill the process at a random moment after it is ready, and start it again when it ended before."""
    process = start(script, *arguments)
    time.sleep(rng.uniform(0, within))
    process.send_signal(signal.SIGKILL)
    process.communicate()


SAVE = """
model = models.load(sys.argv[1])
print("ready", flush=True)
for i in range(10_000):
    with torch.no_grad():
        for weight in model.module.parameters():
            weight.fill_(float(i))
    model.save(sys.argv[1], overwrite=True)
"""


def test_a_model_that_is_saved_over_another_is_whole(build_counts, tmp_path):
    folder, rng = tmp_path / "model", random.Random(0)
    cells = build_counts()
    models.ContrastiveSC.setup_anndata(cells)
    model = models.ContrastiveSC(cells)
    model.train(1, enable_progress_bar=False, accelerator="cpu")
    with torch.no_grad():
        for weight in model.module.parameters():
            weight.fill_(-1.0)
    model.save(folder)
    for _ in range(N_KILLS):
        killed(SAVE, folder, within=0.2, rng=rng)
        with torch.no_grad():
            weights = models.load(folder).module.parameters()
            values = {float(value) for weight in weights for value in weight.unique()}
        assert len(values) == 1


EMBED = """
cells = make_counts(400)
print("ready", flush=True)
tl.embed(cells, "mae", max_epochs=30, save_model=sys.argv[1], train_kwargs=QUICK | {"checkpoint_seconds": 0})
"""


def test_an_embedding_that_is_repeated_until_it_ends_is_that_of_an_undisturbed_run(build_counts, tmp_path):
    folder, rng = tmp_path / "model", random.Random(1)
    for _ in range(N_KILLS):
        killed(EMBED, folder, within=1.0, rng=rng)
        if (folder / "model.json").exists():
            models.load(folder)
    for name in (folder, tmp_path / "undisturbed"):
        process = start(EMBED, name)
        _, said = process.communicate()
        assert process.returncode == 0, said
    found = [models.load(name).module.state_dict() for name in (folder, tmp_path / "undisturbed")]
    assert all((found[0][name] == found[1][name]).all() for name in found[0])


COMMAND = """
from sc_ssl.__main__ import main
print("ready", flush=True)
main(["embed", sys.argv[1], "--method", "pca_cosine", "--out", sys.argv[1], "--key-added", "X_new", "--quiet"])
"""


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_the_commands_output_onto_its_own_input_is_whole(build_counts, tmp_path, suffix):
    path, rng = tmp_path / f"cells{suffix}", random.Random(2)
    cells = build_counts(2000, 500)
    cells.write_h5ad(path) if suffix == ".h5ad" else cells.write_zarr(path)
    for _ in range(N_KILLS // 2):
        killed(COMMAND, path, within=2.0, rng=rng)
        # what the next call would read
        assert (_read(path).X != cells.X).nnz == 0


RUNS = """
from pathlib import Path
from benchmarks.quality.runs import Runs
print("ready", flush=True)
Runs(Path(sys.argv[1]), ("seed",)).fill(({"seed": i} for i in range(100_000)), lambda this: {"twice": 2 * this["seed"]})
"""


def test_finished_runs_of_a_benchmark_are_whole(tmp_path):
    path, rng, done = tmp_path / "runs.csv", random.Random(3), 0
    for _ in range(N_KILLS):
        killed(RUNS, path, within=0.3, rng=rng)
        if path.exists():
            text = path.read_text()
            rows = pd.read_csv(path).iloc[: None if text.endswith("\n") else -1] if text.count("\n") > 1 else []
            assert len(rows) >= done
            done = len(rows)
    from benchmarks.quality.runs import Runs

    table = Runs(path, ("seed",)).table()
    np.testing.assert_array_equal(table["twice"], 2 * table["seed"])
    np.testing.assert_array_equal(table["seed"], np.arange(len(table)))
