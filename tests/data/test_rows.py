"""Chunks of rows."""

import numpy as np
import pytest
from scipy import sparse

from sc_ssl.data import iter_chunks, rows


@pytest.mark.parametrize("make", [sparse.csr_matrix, sparse.csc_matrix, np.asarray])
def test_chunks_together_are_the_matrix(monkeypatch, make):
    monkeypatch.setattr(rows, "CHUNK", 4)
    x = np.random.default_rng(0).poisson(0.5, (11, 5)).astype(np.float32)
    x[4:8] = 0
    parts = list(iter_chunks(make(x)))
    assert [(part.start, part.stop) for part, _ in parts] == [(0, 4), (4, 8), (8, 11)]
    for part, chunk in parts:
        np.testing.assert_array_equal(chunk.toarray(), x[part])
        assert chunk.has_canonical_format


def test_chunks_of_csr_share_its_values():
    x = sparse.random(9, 6, 0.5, format="csr", dtype=np.float32, random_state=0)
    (_, chunk), *_ = iter_chunks(x)
    assert np.shares_memory(chunk.data, x.data)
