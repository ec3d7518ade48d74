import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from sc_ssl.datasets._fetch import find_local

TUTORIALS = Path(__file__).parents[1] / "tutorials"
#: take a minute or more
SLOW = ("clustering_benchmark", "pretrain_and_annotate")
#: read files from the folders of SC_SSL_DATA
NEEDS_DATA = {"pretrain_and_annotate": "pancreas_baron_hs_mm_cider.h5ad"}
PATHS = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if path.stem in SLOW else [])
    for path in sorted(TUTORIALS.glob("*.ipynb"))
]


@pytest.mark.parametrize("path", PATHS)
def test_a_tutorial_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    file = NEEDS_DATA.get(path.stem)
    if file is not None and find_local(file) is None:
        pytest.skip(f"set SC_SSL_DATA to a folder with {file} and what else the tutorial reads")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # figures into the notebook
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4
    assert not os.listdir(tmp_path)
