import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from sc_ssl.datasets._fetch import find_local

TUTORIALS = Path(__file__).parents[1] / "tutorials"
#: take a minute or more
SLOW = ("choosing_a_pretext_task", "clustering_benchmark")
#: files that they read from the folders of SC_SSL_DATA
FILES = {"choosing_a_pretext_task": ("pbmc_3tech_symphony.h5ad", "pbmc_cite_5k10k_subset.h5ad")}


def marks(name):
    missing = [file for file in FILES.get(name, ()) if find_local(file) is None]
    without_data = pytest.mark.skipif(bool(missing), reason=f"no folder of SC_SSL_DATA has {', '.join(missing)}")
    return [without_data, *([pytest.mark.slow] if name in SLOW else [])]


PATHS = [pytest.param(path, id=path.stem, marks=marks(path.stem)) for path in sorted(TUTORIALS.glob("*.ipynb"))]


@pytest.mark.parametrize("path", PATHS)
def test_a_tutorial_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # figures into the notebook
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4
    assert not os.listdir(tmp_path)
