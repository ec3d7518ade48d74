import os
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

TUTORIALS = Path(__file__).parents[1] / "tutorials"
#: take a minute or more
SLOW = (
    "celllm_and_drug_response",
    "choosing_a_pretext_task",
    "clustering_benchmark",
    "pretrain_and_annotate",
    "what_does_the_embedding_see",
)


def needs(path):
    """What a tutorial's metadata name: modules, and files in a folder of ``SC_SSL_DATA``."""
    return nbformat.read(path, as_version=4).metadata.get("needs", {})


def marks(path):
    files = needs(path).get("files", ())
    return [pytest.mark.slow] * (path.stem in SLOW) + [pytest.mark.data(*files)] * bool(files)


PATHS = [pytest.param(path, id=path.stem, marks=marks(path)) for path in sorted(TUTORIALS.glob("*.ipynb"))]


@pytest.mark.parametrize("path", PATHS)
def test_a_tutorial_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # figures into the notebook
    missing = [name for name in needs(path).get("modules", ()) if find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4
    assert not os.listdir(tmp_path)
