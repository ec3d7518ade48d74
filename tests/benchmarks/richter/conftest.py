import numpy as np
import pytest


@pytest.fixture
def cite(build_counts):
    """90 cells of three types, whose four proteins are those of the type and a little noise."""
    counts = build_counts(n_cells=90, n_genes=120)
    values = np.random.default_rng(0).normal(size=(3, 4))[counts.obs["cell_type"].cat.codes]
    counts.obsm["protein_norm"] = values + 0.1 * np.random.default_rng(1).normal(size=(90, 4))
    return counts
