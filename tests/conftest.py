"""Builders with sane defaults, so that each test states only what matters to it."""

import logging
import multiprocessing

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from hermetic import (  # noqa: F401 pytest finds hooks and fixtures here
    folders_of_data,
    only_the_data_that_are_named,
    pytest_runtest_call,
    pytest_runtest_protocol,
)
from scipy import sparse


@pytest.fixture(autouse=True)
def fresh_random_state():
    """Every test starts from the same random state."""
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture
def logged(caplog):
    """What sc_ssl's logger has said, line by line, from a level on."""
    return lambda level=logging.INFO: "\n".join(
        r.getMessage() for r in caplog.records if r.name == "sc_ssl" and r.levelno >= level
    )


@pytest.fixture
def warnings_logged(logged):
    """The same from level warning on, as a list."""
    return lambda: logged(logging.WARNING).splitlines()


@pytest.fixture(scope="session")
def processes():
    """Child processes that know nothing of this one, and start with the package imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sc_ssl.tl", "elsewhere"])
    return context


def make_counts(
    n_cells: int = 120, n_genes: int = 96, n_types: int = 3, *, n_batches: int = 1, depth: float = 3.0, seed: int = 0
) -> AnnData:
    """Negative-binomial counts of types that differ in a block of marker genes each; CSR, ``obs`` type and donor."""
    rng = np.random.default_rng(seed)
    cell_type = np.arange(n_cells) % n_types
    rate = rng.gamma(2, 0.5, n_genes)[None, :].repeat(n_types, axis=0)
    block = n_genes // (2 * n_types)
    for t in range(n_types):
        rate[t, t * block : (t + 1) * block] *= 8
    counts = rng.poisson(rate[cell_type] * rng.gamma(4, depth / 4, (n_cells, 1)))
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical([f"type_{t}" for t in cell_type]),
            "donor": pd.Categorical([f"donor_{i % n_batches}" for i in rng.permutation(n_cells)]),
        },
        index=[f"cell_{i}" for i in range(n_cells)],
    )
    var = pd.DataFrame(index=[f"gene_{i}" for i in range(n_genes)])
    return AnnData(sparse.csr_matrix(counts.astype(np.float32)), obs=obs, var=var)


@pytest.fixture
def counts() -> AnnData:
    """120 cells × 96 genes of three types."""
    return make_counts()


@pytest.fixture(scope="session")
def build_counts():
    """The builder, for tests that want other sizes."""
    return make_counts
