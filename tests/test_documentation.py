"""The code that readers copy runs: the blocks of the README and of the pages, and the examples of the API.

Blocks that are fenced as ``python`` run from the top of a page to its end in one namespace, as a reader would type them;
what needs another machine, or files that are not there, is fenced as ``{code-block} python`` and is not run. Every training
takes one epoch.
"""

import doctest
import inspect
import re
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import scanpy as sc

import sc_ssl
from sc_ssl.models.base.fit import TrainingDefaults
from sc_ssl.tl import cluster

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted(path for folder in ("user_guide", "how_to") for path in (ROOT / "docs" / folder).glob("*.md")),
    ROOT / "docs" / "faq.md",
]


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """One epoch each; figures are not shown, and files are written to a folder of the test."""
    monkeypatch.setattr(TrainingDefaults, "epochs", lambda *_: 1)
    monkeypatch.setattr(sys.modules[cluster.__module__], "MAX_CLUSTERS", 4)  # fewer numbers of clusters to choose from
    monkeypatch.chdir(tmp_path)
    autoshow, sc.settings.autoshow = sc.settings.autoshow, False
    yield
    sc.settings.autoshow = autoshow
    plt.close("all")


WITH_CODE = [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in PAGES if blocks(page)]


@pytest.mark.parametrize("page", WITH_CODE)
def test_the_code_of_a_page_runs(page):
    namespace = {"__name__": page.stem}
    for code in blocks(page):
        exec(compile(code, str(page), "exec"), namespace)


#: modules of extras, without which an example is skipped
NEEDS = {"ppi_gene_embeddings": "torch_geometric"}
NAMESPACES = ("tl", "pp", "pl", "metrics", "datasets", "models")
PUBLIC = [
    pytest.param(getattr(getattr(sc_ssl, namespace), name), id=f"{namespace}.{name}")
    for namespace in NAMESPACES
    for name in getattr(sc_ssl, namespace).__all__
]


@pytest.mark.parametrize("thing", PUBLIC)
def test_the_example_in_a_docstring_runs_and_shows_what_it_says(thing):
    if thing.__name__ in NEEDS:
        pytest.importorskip(NEEDS[thing.__name__])
    examples = doctest.DocTestParser().get_doctest(inspect.getdoc(thing), {}, thing.__name__, None, None)
    assert examples.examples, "no section Examples"
    said = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(examples, out=said.append)
    assert not said, "".join(said)
