"""Sphinx configuration. ``make docs`` builds offline; ``DOCS_OFFLINE=0 make docs`` links to other projects' pages."""

import json
import os
import re
import shutil
from importlib.metadata import version as distribution_version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args, get_origin

import numpy as np
from numpy.typing import ArrayLike
from sphinx.ext import autosummary
from sphinx.ext.napoleon import NumpyDocstring

from sc_ssl.datasets._fetch import find_local

HERE = Path(__file__).parent
OFFLINE = os.environ.get("DOCS_OFFLINE", "0") == "1"

# The tutorials stand at the top of the repository, where a reader looks for them; Sphinx reads only its own folder.
NOTEBOOKS = HERE / "notebooks"
shutil.rmtree(NOTEBOOKS, ignore_errors=True)
NOTEBOOKS.mkdir()
for notebook in sorted((HERE.parent / "tutorials").glob("*.ipynb")):
    shutil.copy(notebook, NOTEBOOKS)


def runs(notebook: Path) -> bool:
    """Whether the files and modules that a tutorial's metadata lists as needed are there."""
    needs = json.loads(notebook.read_text())["metadata"].get("needs", {})
    return all(map(find_spec, needs.get("modules", ()))) and all(map(find_local, needs.get("files", ())))


project = "sc_ssl"
author = "sc_ssl developers"
copyright = f"2026, {author}"
release = version = distribution_version("sc_ssl")

extensions = [
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_autodoc_typehints",
]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
templates_path = ["_templates"]

autosummary_generate = True
autosummary.WELL_KNOWN_ABBREVIATIONS += ("*C.",)  # "*C. elegans*" does not end a sentence
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # sphinx_autodoc_typehints writes the types
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_use_rtype = False  # "Returns" holds prose; the type comes from the annotation
always_use_bars_union = True
typehints_defaults = "braces"
suppress_warnings = [
    "config.cache",  # typehints_formatter, below, is a function and cannot be cached
    "toc.not_readable",  # pages of the index that need not be there: the tutorials
]

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "cache"  # tutorials are stored with their results; they run again when a cell has changed
nb_execution_raise_on_error = True
# shown with the stored results where what they need is not at hand
nb_execution_excludepatterns = [notebook.name for notebook in sorted(NOTEBOOKS.glob("*.ipynb")) if not runs(notebook)]
nb_execution_timeout = 900
# No progress bar on the tutorial's page, where each of its steps would be a line, and no word about its widget.
os.environ |= {"TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore:IProgress not found"}

# Every reference to a public name of ours must resolve; those to other projects can only do so online.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!sc_ssl\.(tl|pp|pl|metrics|datasets|train|models\.[A-Z])).*")]
intersphinx_mapping = (
    {}
    if OFFLINE
    else {
        "anndata": ("https://anndata.readthedocs.io/en/stable/", None),
        "lightning": ("https://lightning.ai/docs/pytorch/stable/", None),
        "matplotlib": ("https://matplotlib.org/stable/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "pandas": ("https://pandas.pydata.org/docs/", None),
        "python": ("https://docs.python.org/3/", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable/", None),
        "scvi": ("https://docs.scvi-tools.org/en/stable/", None),
        "torch": ("https://pytorch.org/docs/stable/", None),
    }
)

html_theme = "sphinx_book_theme"
html_title = "sc_ssl"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_theme_options = {
    "show_navbar_depth": 1,
    "logo": {"text": "sc_ssl", "alt_text": "sc_ssl, home"},
    "use_fullscreen_button": False,
    "use_download_button": False,
    "navbar_persistent": [],  # the search box stands in the side bar
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def short_array_types(annotation: Any, config: Any) -> str | None:
    """Show numpy's array types by their names: written out, ArrayLike alone fills three lines."""
    if get_origin(annotation) is np.ndarray:
        return "``ndarray``"
    parts, array_like = set(get_args(annotation)), set(get_args(ArrayLike))
    if not array_like <= parts:
        return None
    return "array-like | None" if type(None) in parts else "array-like"


def returns_as_prose(docstring: NumpyDocstring, section: str) -> list[str]:
    """Keep "Returns" as written: napoleon reads each sentence in it as the name of a type."""
    lines = docstring._dedent(docstring._consume_to_next_section())
    if lines[0] == ":":  # put there by sphinx_autodoc_typehints, with the same aim, for a single line
        lines = lines[1:]
    return [*docstring._format_block(":returns: ", lines), ""]


#: data sets as people know them; the tables of benchmarks have the names of their files
DATA_SETS = {
    "a375_plx4720": "melanoma, BRAF inhibitor",
    "bonemarrow_matsushita_mouse": "bone marrow, mouse",
    "brain_zeisel_mouse_subset": "brain, mouse (Zeisel)",
    "cbmc_cite_top2000": "cord blood, CITE-seq",
    "celllines_ccle_gdsc": "580 cancer lines (CCLE, GDSC)",
    "celllines_mixology": "five lung cancer lines",
    "gut_mca_mouse": "gut, mouse (Mouse Cell Atlas)",
    "ipsc_cm": "iPSC to heart muscle",
    "pancreas_baron_hs_mm_cider": "pancreas, human and mouse (Baron)",
    "pancreas_baron_mouse": "pancreas, mouse (Baron)",
    "pbmc4k": "PBMC 4k",
    "pbmc68k_reduced": "PBMC 68k, 700 cells",
    "pbmc_3tech_symphony": "PBMC, three technologies",
    "pbmc_cite_5k10k_subset": "PBMC, CITE-seq",
    "pbmc_kang_muscat": "PBMC, lupus ± interferon (Kang)",
    "pbmc_zheng_facs": "PBMC, sorted (Zheng)",
    "pollen": "eleven tissues and lines (Pollen)",
    "ppi_string_highconf_cellchat_human": "STRING, high confidence",
    "ppi_string850_tgsa706_human": "STRING, 706 cancer genes",
    "worm_neuron": "worm neurons",
}


def readable_tables(app: Any, path: Any, parent: str, content: list[str]) -> None:
    """Name data sets in included tables as people know them, and leave a cell without a number empty."""
    name = re.compile(r"(?<![\w/.`\"])(" + "|".join(map(re.escape, DATA_SETS)) + r")(?![\w./`\"])")
    content[0] = name.sub(lambda match: DATA_SETS[match[1]], re.sub(r"(?<=\| )nan(?= \|)", "–", content[0]))


def setup(app: Any) -> None:
    """Sphinx calls this."""
    app.connect("include-read", readable_tables)


typehints_formatter = short_array_types
NumpyDocstring._parse_returns_section = returns_as_prose
