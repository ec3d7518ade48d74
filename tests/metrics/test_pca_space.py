import numpy as np
import pytest
from scipy.sparse import csc_matrix

from sc_ssl import metrics


def test_all_genes_give_the_components_of_the_written_out_formula(build_counts):
    counts = build_counts(60, 30).X.toarray()
    size = counts.sum(axis=1, keepdims=True)
    log = np.log1p(counts / size * np.median(size))
    z = np.clip((log - log.mean(axis=0)) / log.std(axis=0), -10, 10)
    u, s, _ = np.linalg.svd(z - z.mean(axis=0), full_matrices=False)
    found = metrics.pca_space(counts, n_comps=5)
    # components are defined up to their sign
    np.testing.assert_allclose(np.abs(found), np.abs(u * s)[:, :5], atol=1e-3)


def test_same_counts_give_the_same_space_in_every_format(build_counts):
    counts = build_counts().X
    dense = metrics.pca_space(counts.toarray(), n_comps=10)
    for same in (counts, csc_matrix(counts), counts.astype(int)):
        np.testing.assert_array_equal(metrics.pca_space(same, n_comps=10), dense)


def test_counts_and_random_state_stay_as_they_were(build_counts):
    counts = build_counts().X
    copy, before = counts.copy(), np.random.get_state()[1].copy()
    metrics.pca_space(counts)
    assert (counts != copy).nnz == 0
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_depth_of_a_cell_does_not_matter(build_counts):
    counts = build_counts().X.toarray()
    deeper = counts * np.where(np.arange(len(counts)) == 7, 3, 1)[:, None]
    # one cell more or less deep moves the median library size only a little
    found, expected = (metrics.pca_space(c, n_comps=3) for c in (deeper, counts))
    assert np.corrcoef(found[:, 0], expected[:, 0])[0, 1] > 0.999


def test_fewer_genes_and_components_than_asked_for_are_fine(build_counts):
    assert metrics.pca_space(build_counts(20, 12).X, n_top_genes=2000, n_comps=50).shape == (20, 11)
    assert metrics.pca_space(build_counts().X, n_top_genes=40, n_comps=50).shape == (120, 39)


def test_planted_types_lie_apart(build_counts):
    adata = build_counts(150, 200)
    scores = metrics.clustering(metrics.pca_space(adata.X, n_comps=10), adata.obs["cell_type"])
    assert scores["ari"] > 0.9


EMPTY_CELL = np.ones((4, 3)) * np.array([1, 1, 0, 1])[:, None]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (EMPTY_CELL, r"1 of 4 have none: rows 2\. .*filter_cells"),
        (EMPTY_CELL - 1, "negative"),
        (np.full((4, 3), np.nan), "NaN"),
        (np.ones(3), r"shape \(n_cells, n_genes\)"),
    ],
)
def test_bad_counts_are_named(counts, message):
    with pytest.raises(ValueError, match=message):
        metrics.pca_space(counts)
