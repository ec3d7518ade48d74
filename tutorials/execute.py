"""Run tutorials and store their results in them, without paths, times and progress: ``python tutorials/execute.py [NAME ...]``."""

import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

TUTORIALS = Path(__file__).parent
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def clean(cell: nbformat.NotebookNode) -> None:
    """Keep what a reader wants to see: no log, no progress, no address in memory, no time of the run."""
    cell.metadata.pop("execution", None)
    cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    for output in cell.outputs:
        data = output.get("data", {})
        data.pop("application/vnd.jupyter.widget-view+json", None)
        if "text/plain" in data:
            data["text/plain"] = ADDRESS.sub("", data["text/plain"])
        if "text" in output:
            output["text"] = ADDRESS.sub("", output["text"])
    cell.outputs = [output for output in cell.outputs if output.get("data", True)]


def execute(path: Path) -> None:
    """Run a tutorial in an empty folder, as a reader would who has installed the package."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": folder}}).execute()
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            clean(cell)
    nbformat.write(notebook, path)
    print(path.name, flush=True)


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(path.stem for path in TUTORIALS.glob("*.ipynb")):
        execute(TUTORIALS / f"{name}.ipynb")
