"""Tests pass or fail for the same reason on every machine: no network, and no data but the files that a test names.

A connection to another machine is an error, except in a test that is marked ``internet``. The guard is an audit hook of
Python, so it sees every library that opens a connection in this process; it does not see processes that a test starts.
A test that is marked ``data("file", ...)`` finds the folders of ``SC_SSL_DATA`` and is skipped where a file is missing;
all others find that variable unset.
"""

import ipaddress
import os
import socket
import sys

import pooch
import pytest

FOLDERS_VARIABLE = "SC_SSL_DATA"
LOCAL_NAMES = {"", "localhost", socket.gethostname()}
INTERNET = (socket.AF_INET, socket.AF_INET6)
#: Python's audit events for opening a connection and looking up a name, and the host in their arguments
HOST_OF = {
    "socket.connect": lambda connection, address: address[0] if connection.family in INTERNET else "",
    "socket.sendto": lambda connection, address: address[0] if connection.family in INTERNET else "",
    "socket.getaddrinfo": lambda host, *_: host,
    "socket.gethostbyname": lambda host: host,
}


class Guard:
    """The test that runs now, and what it tried."""

    def __init__(self):
        self.test = None
        self.refused = []

    def __call__(self, event: str, arguments: tuple) -> None:
        """The audit hook: what it raises, the call that is audited raises."""
        if self.test is None or event not in HOST_OF:
            return
        host = HOST_OF[event](*arguments)
        if not is_local(host):
            self.refused.append(host)
            self.fail()

    def fail(self) -> None:
        """Fail with an exception that ``except Exception`` does not catch."""
        pytest.fail(
            f"{self.test} opens a connection to {self.refused[0]}. The default suite runs without a network: use small "
            "data that the test makes or that come with an installed package, or mark the test 'internet'.",
            pytrace=False,
        )


def is_local(host: str | bytes | None) -> bool:
    """Whether a host is this machine."""
    name = host.decode() if isinstance(host, bytes) else host or ""
    try:
        return ipaddress.ip_address(name).is_loopback or ipaddress.ip_address(name).is_unspecified
    except ValueError:
        return name in LOCAL_NAMES


GUARD = Guard()
sys.addaudithook(GUARD)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Guard a test with its fixtures."""
    GUARD.test = None if item.get_closest_marker("internet") else item.nodeid
    GUARD.refused.clear()
    try:
        return (yield)
    finally:
        GUARD.test = None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Fail too where the test's code swallowed the error, or had it in a thread."""
    result = yield
    if GUARD.refused:
        GUARD.fail()
    return result


@pytest.fixture(scope="session", autouse=True)
def folders_of_data():
    """The folders of data; the variable is unset before any fixture could read it."""
    with pytest.MonkeyPatch.context() as patch:
        folders = os.environ.get(FOLDERS_VARIABLE, "")
        patch.delenv(FOLDERS_VARIABLE, raising=False)
        yield folders


@pytest.fixture(autouse=True)
def only_the_data_that_are_named(request, folders_of_data, monkeypatch, tmp_path_factory):
    """Give back ``SC_SSL_DATA`` to a test that names its files; skip it where one is missing."""
    if request.node.get_closest_marker("internet") is None:
        # a file that was downloaded once would hide that a test downloads
        monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path_factory.getbasetemp() / "no_cache" / project)
    marker = request.node.get_closest_marker("data")
    if marker is None:
        return
    folders = folders_of_data.split(os.pathsep)
    missing = [name for name in marker.args if not any(os.path.isfile(os.path.join(f, name)) for f in folders)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} in a folder of {FOLDERS_VARIABLE}")
    monkeypatch.setenv(FOLDERS_VARIABLE, folders_of_data)
