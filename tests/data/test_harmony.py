"""Cells of several batches in one space, and means of batches that do not depend on their composition."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from sc_ssl.data import Cells, batch_statistics, gene_statistics, harmonize
from sc_ssl.tl import pca_cosine


def make_batches(n_cells=600, n_batches=2, *, without=(), shift=1.0, seed=0):
    """Components of three types in batches that differ by a shift; ``without`` has (batch, type) pairs that are left out."""
    rng = np.random.default_rng(seed)
    type_n, batch_n = rng.integers(0, 3, n_cells), rng.integers(0, n_batches, n_cells)
    kept = np.array([(b, t) not in without for b, t in zip(batch_n, type_n, strict=True)])
    type_n, batch_n = type_n[kept], batch_n[kept]
    center_td, shift_bd = 4 * rng.normal(size=(3, 10)), shift * rng.normal(size=(n_batches, 10))
    noise_nd = 0.5 * rng.normal(size=(len(type_n), 10))
    return center_td[type_n] + shift_bd[batch_n] + noise_nd, batch_n, type_n


def same_rate(z_nd, label_n, k=15):
    """Share of a cell's neighbours with its label."""
    index = NearestNeighbors(n_neighbors=k).fit(z_nd).kneighbors()[1]
    return float((label_n[index] == label_n[:, None]).mean())


def test_batches_mix_and_types_stay_apart():
    z_nd, batch_n, type_n = make_batches()
    found_nd = harmonize(z_nd, batch_n).z_nd
    assert same_rate(z_nd, batch_n) > 0.95
    assert same_rate(found_nd, batch_n) < 0.6
    assert same_rate(found_nd, type_n) > 0.99


def test_a_type_of_one_batch_alone_keeps_its_place():
    z_nd, batch_n, type_n = make_batches(without=[(1, 2)])
    found_nd = harmonize(z_nd, batch_n).z_nd
    shared = type_n != 2
    assert same_rate(found_nd[shared], batch_n[shared]) < 0.65
    assert same_rate(found_nd, type_n) > 0.99


def test_shares_sum_to_one_and_clusters_hold_cells_of_all_batches():
    z_nd, batch_n, _ = make_batches()
    share_nk = harmonize(z_nd, batch_n).share_nk
    np.testing.assert_allclose(share_nk.sum(axis=1), 1)
    rate_k = share_nk[batch_n == 0].sum(axis=0) / share_nk.sum(axis=0)
    large = share_nk.sum(axis=0) > 5
    assert np.abs(rate_k[large] - (batch_n == 0).mean()).max() < 0.2


def test_the_correction_is_the_ridge_regression_of_each_cluster():
    """Algorithm 3 of the paper, with the normal equations written out."""
    z_nd, batch_n, _ = make_batches(200, 3)
    found = harmonize(z_nd, batch_n)
    design = np.hstack([np.ones((len(z_nd), 1)), np.eye(3)[batch_n]])
    expected_nd = z_nd.copy()
    for share_n in found.share_nk.T:
        weighed = design * share_n[:, None]
        coefficient = np.linalg.solve(weighed.T @ design + np.diag([0.0, 1, 1, 1]), weighed.T @ z_nd)
        coefficient[0] = 0
        expected_nd -= weighed @ coefficient
    np.testing.assert_allclose(found.z_nd, expected_nd, atol=1e-8)


def test_one_batch_and_batches_that_agree_are_hardly_moved():
    z_nd, batch_n, _ = make_batches(shift=0.0)
    np.testing.assert_allclose(harmonize(z_nd, np.zeros_like(batch_n)).z_nd, z_nd, atol=1e-9)
    moved = np.linalg.norm(harmonize(z_nd, batch_n).z_nd - z_nd, axis=1)
    assert np.median(moved) < 0.05 * np.median(np.linalg.norm(z_nd, axis=1))


def test_the_same_cells_give_the_same_bits_and_random_state_is_left_alone():
    z_nd, batch_n, _ = make_batches()
    before = np.random.get_state()[1].copy()
    np.testing.assert_array_equal(harmonize(z_nd, batch_n).z_nd, harmonize(z_nd, batch_n).z_nd)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("n_batches", [2, 300], ids=["two cells a batch", "hundreds of batches"])
def test_small_and_many_batches_are_finite(n_batches):
    n_cells = 4 if n_batches == 2 else 900
    z_nd, _, _ = make_batches(n_cells, n_batches)
    assert np.isfinite(harmonize(z_nd, np.arange(len(z_nd)) % n_batches).z_nd).all()


# statistics


@pytest.fixture
def uneven(build_counts):
    """Two batches that differ in depth by gene, one of which lacks a type."""
    adata = build_counts(900, 60, n_batches=2, depth=8.0)
    rate_g = np.exp(np.random.default_rng(1).normal(0, 0.5, adata.n_vars))
    second = (adata.obs["donor"] == "donor_1").to_numpy()
    x = adata.X.toarray()
    x[second] = np.random.default_rng(2).poisson(x[second] * rate_g)
    adata.X = type(adata.X)(x.astype(np.float32))
    return adata


def read(adata):
    return Cells.from_anndata(adata, list(adata.var_names), batch_key="donor", batches=["donor_0", "donor_1"])


def test_a_batchs_mean_does_not_depend_on_its_composition(uneven):
    """A type that is left out of a batch moves its plain means, and hardly its differences to the other batch."""
    lacks = uneven[~((uneven.obs["donor"] == "donor_1") & (uneven.obs["cell_type"] == "type_0")).to_numpy()].copy()

    def difference(statistics, adata):
        mean_bg = statistics(read(adata), n_batch=2, log_input=False).mean_bg
        return mean_bg[2] - mean_bg[1]

    complete = difference(gene_statistics, uneven)
    plain, corrected = difference(gene_statistics, lacks), difference(batch_statistics, lacks)
    assert np.abs(corrected - complete).mean() < 0.5 * np.abs(plain - complete).mean()


def test_of_one_batch_they_are_the_plain_ones(build_counts):
    adata = build_counts()
    adata.obs["donor"] = "donor_0"
    found, expected = (f(read(adata), n_batch=1, log_input=False) for f in (batch_statistics, gene_statistics))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_all_cells_keep_their_mean_and_genes_have_one_sd(uneven):
    cells = read(uneven)
    found = batch_statistics(cells, n_batch=2, log_input=False)
    plain = gene_statistics(cells, n_batch=2, log_input=False)
    rate_b = np.bincount(cells.batch) / cells.n_cells
    np.testing.assert_allclose(rate_b @ found.mean_bg[1:], plain.mean_bg[0], rtol=1e-6)
    assert np.ptp(found.sd_bg, axis=0).max() == 0
    assert (found.sd_bg <= plain.sd_bg[0] * 1.2 + 1e-9).all()


def test_a_batch_without_a_type_in_common_is_named_and_others_are_not(build_counts, warnings_logged):
    cells = build_counts(600)
    donor = np.random.default_rng(0).choice(["one", "two"], 600)
    cells.obs["donor"] = np.where(cells.obs["cell_type"] == "type_2", "alone", donor)
    pca_cosine(cells, batch_key="donor")
    assert any("1 of 3 batches have hardly any cells like" in text and "'alone'" in text for text in warnings_logged())
    within = (cells.obs["cell_type"] == "type_2").to_numpy()
    z_nd = cells.obsm["X_pca_cosine"]
    assert (z_nd[within] @ z_nd[~within].T).max() < (z_nd[within] @ z_nd[within].T).mean()  # not forced together


def test_batches_with_types_in_common_are_not_named(build_counts, warnings_logged):
    cells = build_counts(600, n_batches=3)
    pca_cosine(cells, batch_key="donor")
    assert not warnings_logged()
