"""The guard of :mod:`hermetic`, in a small suite of its own that has this suite's hooks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = """
import os
import socket
import threading
from contextlib import suppress
from urllib.request import urlopen

import pooch
import pytest

AWAY = "192.0.2.1"  # an address for documentation: nobody has it

def test_address():
    socket.create_connection((AWAY, 80), timeout=0.1)

def test_hostname():
    urlopen("https://example.invalid/file.h5ad", timeout=0.1)

def test_datagram():
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"a", (AWAY, 80))

def test_swallowed():
    with suppress(BaseException):
        socket.create_connection((AWAY, 80), timeout=0.1)

def test_thread():
    thread = threading.Thread(target=test_swallowed)
    thread.start()
    thread.join()

@pytest.fixture(scope="module")
def downloaded():
    urlopen("https://example.invalid/file.h5ad", timeout=0.1)

def test_fixture(downloaded):
    pass

@pytest.mark.internet
def test_marked():
    with pytest.raises(OSError):
        socket.create_connection((AWAY, 80), timeout=0.1)

@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_this_machine(host):
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection((host, server.getsockname()[1])).close()

def test_unix(tmp_path):
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))

@pytest.fixture(scope="module")
def seen():
    return os.environ.get("SC_SSL_DATA")

def test_no_folder(seen):
    assert seen is None and "SC_SSL_DATA" not in os.environ

def test_empty_cache():
    assert not pooch.os_cache("sc_ssl").exists()

@pytest.mark.data("here.h5ad")
def test_named():
    assert os.path.exists(os.path.join(os.environ["SC_SSL_DATA"], "here.h5ad"))

@pytest.mark.data("here.h5ad", "nowhere.h5ad")
def test_missing():
    raise AssertionError("it ran")
"""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """``outcome["test_name"]``: the lines of the report on that test."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "test_suite.py").write_text(SUITE)
    (folder / "here.h5ad").touch()
    names = [line.split()[1].split("(")[0] for line in SUITE.splitlines() if line.startswith("def test_")]
    options = ["-p", "hermetic", "-p", "no:cacheprovider", "--rootdir", folder, "-rA", "--tb=line", "-c", os.devnull]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "SC_SSL_DATA": str(folder), "COLUMNS": "500"}
    command = [sys.executable, "-m", "pytest", *options, "-W", "ignore", folder]
    report = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True).stdout
    lines = report.splitlines()
    skipped = [line for line in lines if line.startswith("SKIPPED")]  # pytest names the place of these, not the test
    ran = [line for line in lines if line.startswith(("PASSED", "FAILED", "ERROR"))]
    return {name: [line for line in ran if f"::{name}" in line] for name in names} | {"skipped": skipped}


@pytest.mark.parametrize("name", ["address", "hostname", "datagram", "swallowed", "thread", "fixture"])
def test_a_connection_is_an_error_that_names_the_test_and_the_remedy(outcome, name):
    (line,) = outcome[f"test_{name}"]
    assert line.startswith(("FAILED", "ERROR"))
    host = "example.invalid" if name in ("hostname", "fixture") else "192.0.2.1"
    assert f"test_suite.py::test_{name} opens a connection to {host}" in line.split(" - ")[1]
    assert "or mark the test 'internet'" in line


@pytest.mark.parametrize("name", ["marked", "this_machine", "unix"])
def test_a_marked_test_may_connect_and_every_test_to_its_own_machine(outcome, name):
    assert outcome[f"test_{name}"] and all(line.startswith("PASSED") for line in outcome[f"test_{name}"])


@pytest.mark.parametrize("name", ["no_folder", "empty_cache", "named"])
def test_a_test_finds_the_data_that_it_names_and_no_other(outcome, name):
    (line,) = outcome[f"test_{name}"]
    assert line.startswith("PASSED")


def test_a_test_whose_data_are_missing_is_skipped_with_the_reason(outcome):
    (line,) = outcome["skipped"]
    assert outcome["test_missing"] == [] and "needs nowhere.h5ad in a folder of SC_SSL_DATA" in line
