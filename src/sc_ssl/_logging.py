"""The package's logger: one line on stderr for what a user should know, as scanpy and scvi-tools do."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger("sc_ssl")
if not logger.handlers:
    logger.addHandler(logging.StreamHandler())
    logger.setLevel(logging.INFO)
    logger.propagate = False


@contextmanager
def logged_once() -> Iterator[None]:
    """Inside the block a message is logged once, however many steps of the work have reason for it."""
    logged: set[str] = set()

    def is_new(entry: logging.LogRecord) -> bool:
        message = entry.getMessage()
        new = message not in logged
        logged.add(message)
        return new

    logger.addFilter(is_new)
    try:
        yield
    finally:
        logger.removeFilter(is_new)
