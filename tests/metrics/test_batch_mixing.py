"""Batches mixed among like cells: 0 apart, 1 at random, whatever the composition of the batches."""

import numpy as np
import pytest

from sc_ssl.metrics import batch_mixing

RNG = np.random.default_rng(0)
TYPE = np.repeat(["a", "b", "c"], [400, 400, 60])
#: the second type is of the first batch but for a seventh, the third of it alone
BATCH = np.where(RNG.uniform(size=860) < np.select([TYPE == "a", TYPE == "b"], [0.5, 0.15], 0.0), "two", "one")
MIXED = RNG.normal(size=(860, 4)) + 20 * (TYPE == "b")[:, None] + 40 * (TYPE == "c")[:, None]


def test_batches_that_are_mixed_reach_one_and_batches_apart_zero():
    assert batch_mixing(MIXED, BATCH, TYPE) == pytest.approx(1, abs=0.1)
    assert batch_mixing(MIXED + 200.0 * (BATCH == "two")[:, None], BATCH, TYPE) == pytest.approx(0, abs=0.1)


def test_without_labels_batches_of_other_composition_do_not_reach_one():
    assert batch_mixing(MIXED, BATCH) < 0.95 * batch_mixing(MIXED, BATCH, TYPE)


def test_it_is_the_index_counted_by_hand():
    z, batch = RNG.normal(size=(60, 2)), np.arange(60) % 3
    distance = np.linalg.norm(z[:, None] - z, axis=2) + np.diag(np.full(60, np.inf))
    share = np.stack([(batch[distance.argsort(axis=1)[:, :7]] == b).mean(axis=1) for b in range(3)])
    expected = (np.mean(1 / (share**2).sum(axis=0)) - 1) / 2
    assert batch_mixing(z, batch, n_neighbors=7) == pytest.approx(expected)


def test_a_type_that_one_batch_holds_is_left_out():
    only = TYPE == "c"
    assert np.isnan(batch_mixing(MIXED, np.where(only, "one", "two"), TYPE))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batches": ["one"] * 860}, "at least two batches"),
        ({"batches": BATCH[:5]}, "batches should have one row for each of the 860 cells, but has 5"),
        ({"batches": BATCH, "labels": [None, *TYPE[1:]]}, "labels should have a value for each cell"),
    ],
)
def test_what_cannot_be_scored_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        batch_mixing(MIXED, **options)
