"""The package's logger: one line on stderr for what a user should know, as scanpy and scvi-tools do.

What is shown follows what the user has set: the level of Python's logger ``sc_ssl``, and of scanpy
``sc.settings.verbosity = 0``, which leaves errors alone. Once the user configures handlers of their own
(``logging.basicConfig``), the lines go there and no longer to stderr as well.
"""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def wanted(level: int) -> bool:
    """Whether the user wants to see lines of this level, and with ``logging.INFO`` progress bars."""
    return logger.isEnabledFor(level) and _loud_enough(level)


def _loud_enough(level: int) -> bool:
    """By scanpy's verbosity; who has not imported scanpy has not set it, and its default is to show everything here."""
    scanpy = sys.modules.get("scanpy")
    settings = getattr(scanpy, "settings", None)
    return level >= logging.ERROR or int(getattr(settings, "verbosity", 1)) > 0


class _Stderr(logging.StreamHandler):
    """Writes to what is ``sys.stderr`` at the time, unless the user's handlers see the line already."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self):
        return sys.stderr

    def emit(self, entry: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            super().emit(entry)


logger = logging.getLogger("sc_ssl")
if not logger.handlers:
    logger.addHandler(_Stderr())
    if logger.level == logging.NOTSET:  # else the user has set it before
        logger.setLevel(logging.INFO)
    logger.addFilter(lambda entry: _loud_enough(entry.levelno))


@contextmanager
def logged_once() -> Iterator[None]:
    """Inside the block a message of this thread is logged once, however many steps of the work have reason for it."""
    logged, thread = set[str](), threading.get_ident()

    def is_new(entry: logging.LogRecord) -> bool:
        if entry.thread != thread:
            return True
        message = entry.getMessage()
        new = message not in logged
        logged.add(message)
        return new

    logger.addFilter(is_new)
    try:
        yield
    finally:
        logger.removeFilter(is_new)
