"""Cells that were embedded, and a saved model."""

import pytest
from embedding import SMALL, run


@pytest.fixture(scope="module")
def embedded(build_counts):
    """Cells with both methods' results; not to be changed."""
    counts = build_counts()
    for method in SMALL:
        run(counts, method)
    return counts


@pytest.fixture(scope="module")
def folder(build_counts, tmp_path_factory):
    """The saved model of ``embedded``'s contrastive_sc."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    run(build_counts(), save_model=folder)
    return folder
