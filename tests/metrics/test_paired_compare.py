"""Paired comparison of two methods."""

import numpy as np
import pytest

from sc_ssl.metrics import paired_compare


def test_a_steady_gain_is_found_where_unpaired_scores_overlap():
    rng = np.random.default_rng(0)
    split = rng.normal(0.7, 0.1, 12)
    result = paired_compare(split + 0.02 + rng.normal(0, 0.005, 12), split)
    assert 0 < result["low"] < result["difference"] < result["high"]
    assert result["difference"] == pytest.approx(0.02, abs=0.005)
    assert result["p_value"] == pytest.approx(2 / 2**12)  # all 12 ranks have one sign
    assert result["won"] == 1


def test_exchanged_methods_give_the_opposite():
    a, b = np.random.default_rng(0).random((2, 9))
    there, back = paired_compare(a, b), paired_compare(b, a)
    assert there["difference"] == pytest.approx(-back["difference"])
    assert there["p_value"] == pytest.approx(back["p_value"])
    assert there["won"] == pytest.approx(1 - back["won"])


def test_equal_runs_differ_by_nothing():
    result = paired_compare([0.5, 0.6], [0.5, 0.6])
    assert result[["difference", "low", "high", "p_value", "won"]].tolist() == [0, 0, 0, 1, 0.5]


def test_one_run_has_no_interval():
    result = paired_compare([0.5], [0.4])
    assert np.isnan(result[["low", "high"]]).all()


@pytest.mark.parametrize(("a", "b"), [([1], [1, 2]), ([], []), ([np.nan], [1])])
def test_runs_that_do_not_pair_are_refused(a, b):
    with pytest.raises(ValueError, match=r"as many scores|finite"):
        paired_compare(a, b)
