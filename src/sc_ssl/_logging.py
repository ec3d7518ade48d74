"""The package's logger: one line on stderr for what a user should know, as scanpy and scvi-tools do."""

import logging

logger = logging.getLogger("sc_ssl")
if not logger.handlers:
    logger.addHandler(logging.StreamHandler())
    logger.setLevel(logging.INFO)
    logger.propagate = False
