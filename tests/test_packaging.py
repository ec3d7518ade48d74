"""Properties of the package as a whole."""

import importlib
import inspect
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

import sc_ssl

ROOT = Path(__file__).parent.parent
FUNCTION_NAMESPACES = ["pp", "tl", "pl", "metrics", "datasets"]
PUBLIC = [
    pytest.param(getattr(importlib.import_module(f"sc_ssl.{namespace}"), name), id=f"{namespace}.{name}")
    for namespace in [*FUNCTION_NAMESPACES, "models"]
    for name in importlib.import_module(f"sc_ssl.{namespace}").__all__
]
FUNCTIONS = [param for param in PUBLIC if param.id.startswith(("pp.", "tl.", "pl."))]


def seconds_to_run(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def test_import_is_fast():
    bare = min(seconds_to_run("import importlib.metadata") for _ in range(3))
    ours = min(seconds_to_run("import sc_ssl") for _ in range(3))
    assert ours - bare < 1


def test_import_loads_no_heavy_library():
    code = (
        "import sys, sc_ssl; print(*{'torch', 'scvi', 'scanpy', 'anndata', 'lightning', 'pandas'} & set(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert loaded.split() == []


def test_version_is_that_of_the_distribution():
    assert sc_ssl.__version__ == version("sc_ssl")


@pytest.mark.parametrize("namespace", sc_ssl.__all__)
def test_namespaces_are_reached_as_attributes(namespace):
    assert getattr(sc_ssl, namespace).__name__ == f"sc_ssl.{namespace}"


def test_unknown_attribute_says_what_there_is():
    with pytest.raises(AttributeError, match="models"):
        sc_ssl.model  # noqa: B018


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_take_the_data_first_and_options_by_keyword(function):
    parameters = list(inspect.signature(function).parameters.values())
    positional = [p for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    assert positional[0].default is inspect.Parameter.empty
    reads_a_file = function.__name__.startswith("read_")
    if function.__module__.startswith(("sc_ssl.pp", "sc_ssl.tl")) and not reads_a_file:
        assert positional[0].name in ("adata", "adatas")
    assert len(positional) <= 3
    assert all(p.name != "copy" or p.default is False for p in parameters)


@pytest.mark.parametrize("thing", PUBLIC)
def test_docstrings_describe_every_parameter(thing):
    doc = inspect.getdoc(thing)
    assert doc, "no docstring"
    assert doc.splitlines()[0].endswith("."), "the first line is a sentence"
    names = {
        p.name for p in inspect.signature(thing).parameters.values() if p.kind not in {p.VAR_KEYWORD, p.VAR_POSITIONAL}
    }
    names -= {"self", "registry"}  # scvi-tools passes registry= when it loads a model; nobody types it
    assert names <= documented_parameters(doc)


@pytest.mark.parametrize("thing", PUBLIC)
def test_every_public_name_has_a_page(thing, request):
    name = request.node.callspec.id
    assert f"    {name}\n" in (ROOT / "docs" / "api" / f"{name.split('.')[0]}.md").read_text()


def documented_parameters(doc: str) -> set[str]:
    """Names in the section 'Parameters' of a numpydoc docstring: unindented lines, several names by comma."""
    match = re.search(r"^Parameters\n-{10}\n(.*?)(?=^\S[^\n]*\n-{3,}\n|\Z)", doc, flags=re.DOTALL | re.MULTILINE)
    lines = re.findall(r"^\S.*$", match[1], flags=re.MULTILINE) if match else []
    return {name.strip(" *") for line in lines for name in line.split(":")[0].split(",")}


def files_in(target: str) -> list[str]:
    """What hatchling would put into the wheel or the source distribution, as paths there."""
    builders = pytest.importorskip(f"hatchling.builders.{target}", reason="hatchling is in the group test")
    builder = vars(builders)["WheelBuilder" if target == "wheel" else "SdistBuilder"](str(ROOT))
    with builder.config.set_build_data({"force_include": {}, "artifacts": []}):
        return [Path(file.distribution_path).as_posix() for file in builder.recurse_included_files()]


def test_the_wheel_holds_the_package_and_no_benchmark():
    files = files_in("wheel")
    assert {"sc_ssl/__init__.py", "sc_ssl/py.typed", "sc_ssl/models/scpretrain/shipped/scpretrain/README.md"} <= set(
        files
    )
    assert [file for file in files if not file.startswith("sc_ssl/")] == []
    shipped = "sc_ssl/models/scpretrain/shipped/"
    foreign = re.compile(r"benchmark|[.](png|csv|ipynb)$")
    assert [file for file in files if foreign.search(file) and not file.startswith(shipped)] == []


def test_the_source_distribution_holds_benchmarks_without_results():
    files = files_in("sdist")
    assert "benchmarks/quality/__main__.py" in files
    assert [file for file in files if "results/" in file and file.startswith("benchmarks/")] == []


def tracked_files() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def tracked_text() -> list[tuple[str, str]]:
    texts = []
    for path in tracked_files():
        content = path.read_bytes()
        if b"\0" not in content:
            texts.append((str(path.relative_to(ROOT)), content.decode()))
    return texts


def test_no_file_is_a_drawer_for_everything():
    drawers = re.compile(r"(^|_)(utils?|misc|helpers?|commons?)(_|$)")
    assert [str(path) for path in tracked_files() if drawers.search(path.stem)] == []


def test_tracked_files_name_no_place_of_one_machine():
    folders = r"(?<![\w.:/])/(work|home|root|Users|tmp|opt)/\w"
    package_index = r"py[p]i[.]org|python[h]osted"  # the brackets keep this line from finding itself
    places = re.compile(f"{folders}|{package_index}")
    found = [f"{name}: {match[0]}" for name, text in tracked_text() if (match := places.search(text))]
    assert found == []
