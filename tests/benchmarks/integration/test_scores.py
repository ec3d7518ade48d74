"""Mixing and types across batches, on cells whose scores are known."""

import numpy as np
import pytest
from anndata import AnnData

from benchmarks.quality.integration import batches, mapping, table
from benchmarks.quality.integration.scores import cross_batch_f1
from sc_ssl.metrics import batch_mixing

rng = np.random.default_rng(0)
TYPE = np.repeat(["a", "b"], 200)
BATCH = np.tile(["x", "y"], 200)
APART = np.where(TYPE == "a", 0.0, 20.0)[:, None] + rng.normal(size=(400, 2))


def test_mixed_batches_score_one_and_separate_ones_zero():
    assert batch_mixing(APART, BATCH, TYPE) == pytest.approx(1, abs=0.1)
    separate = APART + np.where(BATCH == "x", 0.0, 100.0)[:, None]
    assert batch_mixing(separate, BATCH, TYPE) == pytest.approx(0, abs=0.02)


def test_types_are_found_by_cells_of_other_batches():
    directions = np.where(TYPE == "a", 0.0, np.pi / 2)
    z_nd = np.stack([np.cos(directions), np.sin(directions)], axis=1) + 0.05 * rng.normal(size=(400, 2))
    assert cross_batch_f1(z_nd, TYPE, BATCH) == 1
    swapped = np.where((BATCH == "x")[:, None], z_nd[:, ::-1], z_nd)  # in one batch the types change places
    assert cross_batch_f1(swapped, TYPE, BATCH) == 0


def test_a_type_that_one_batch_lacks_is_not_scored_for_mixing_but_can_be_mistaken():
    only = TYPE.copy()
    only[(TYPE == "b") & (BATCH == "y")] = "a"
    assert batch_mixing(APART, BATCH, only) < 1
    assert cross_batch_f1(APART, np.where(BATCH == "x", "a", TYPE), BATCH) < 1


def test_shift_takes_another_major_type_out_of_each_batch(build_counts, monkeypatch):
    adata = build_counts(600, 30, n_types=5, n_batches=3)
    adata.obs["batch"] = adata.obs["donor"]
    monkeypatch.setattr(batches, "load", lambda name: adata)
    even, shift = (batches.prepare("cells", composition) for composition in batches.COMPOSITIONS)
    assert even.n_obs == 600
    lacking = {
        batch: set(even.obs["cell_type"]) - set(part["cell_type"])
        for batch, part in shift.obs.groupby("batch", observed=True)
    }
    assert all(len(types) == 1 for types in lacking.values())
    assert len(set.union(*lacking.values())) == 3


def test_without_a_batch_the_data_set_is_named(build_counts, monkeypatch):
    adata = build_counts(50, 20)
    del adata.obs["donor"]
    monkeypatch.setattr(batches, "load", lambda name: adata)
    with pytest.raises(KeyError, match="cells should have the cells' batches"):
        batches.prepare("cells", "even")


@pytest.mark.parametrize("row", ["PCA", "pca_cosine, batch named", "ComBat"])
def test_rows_embed_all_cells_and_leave_them_alone(build_counts, row):
    adata = build_counts(120, 90, n_batches=2)
    cells = AnnData(adata.X, obs=adata.obs.rename(columns={"donor": "batch"}), var=adata.var)
    before = cells.X.copy()
    z_nd = table.ROWS[row](cells, 0)
    assert len(z_nd) == 120
    assert np.isfinite(z_nd).all()
    assert (cells.X != before).nnz == 0


@pytest.mark.parametrize("row", ["PCA of the reference, query projected", "PCA of both"])
def test_a_batch_that_is_left_out_is_found_among_the_others(build_counts, monkeypatch, row):
    adata = build_counts(240, 90, n_batches=3, depth=8.0)
    adata.obs["batch"] = adata.obs["donor"]
    monkeypatch.setattr(batches, "load", lambda name: adata)
    splits = mapping.prepare("cells")
    assert [split.query.n_obs for split in splits] == list(adata.obs["donor"].value_counts(sort=False))
    found = mapping.fit(mapping.ROWS[row], splits, {"seed": 0})
    scores = mapping.evaluate(found, splits, {"seed": 0})
    assert scores["f1"] > 0.9
    assert scores["mix"] > 0.8
