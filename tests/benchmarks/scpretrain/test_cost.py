"""The cost table: repeated data, one process a measurement."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.quality.scpretrain import cost


@pytest.fixture
def small(build_counts, monkeypatch):
    adata = build_counts(60)
    adata.var_names = [f"GENE{i}" for i in range(96)]
    monkeypatch.setattr(cost, "load", lambda name: adata)
    monkeypatch.setattr(cost, "N_EPOCHS", 1)
    return adata


def test_cells_and_data_sets_are_repeated(small):
    assert cost.more_cells("a", 4, 0)["cells"] == 240
    assert cost.more_data_sets("a", 4, 0)["cells"] == 960
    x = cost._repeated(small, 2).X
    np.testing.assert_array_equal(x[60:].toarray(), small.X.toarray())


def test_table(monkeypatch, tmp_path):
    class Here:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def apply(self, function, arguments):
            return function(*arguments)

    monkeypatch.setattr(
        cost.multiprocessing, "get_context", lambda how: type("", (), {"Pool": lambda self, n: Here()})()
    )
    found = {"cells": 5, "seconds": 1.0, "processor seconds": 2.0, "peak MiB": 3.0, "cells a second": 4.0}
    monkeypatch.setattr(cost, "ROWS", {"more cells": lambda *_: found, "shipped encoder": lambda *_: found})
    cost.benchmark().run(["a"], 1, tmp_path)
    runs = pd.read_csv(tmp_path / "scpretrain_cost.csv")
    assert runs[["method", "times"]].values.tolist() == [["more cells", t] for t in (1, 4, 16)] + [
        ["shipped encoder", 1]
    ]
    assert (
        "| a | more cells | 16 | 5 | 1.000 | 2.000 | 3.000 | 4.000 |" in (tmp_path / "scpretrain_cost.md").read_text()
    )
