"""PCA with cells at length 1."""

import numpy as np
import pytest

from sc_ssl.data import Cells, principal_components
from sc_ssl.metrics import pca_space
from sc_ssl.tl import pca_cosine


def test_directions_are_those_of_the_common_space(counts):
    pca_cosine(counts, n_top_genes=50, n_comps=6)
    z = pca_space(counts.X, n_top_genes=50, n_comps=6)
    expected = z / np.linalg.norm(z, axis=1, keepdims=True)
    np.testing.assert_allclose(counts.obsm["X_pca_cosine"], expected, atol=1e-5)


def test_the_library_size_is_that_of_all_genes(counts):
    pca_cosine(counts, n_top_genes=50, n_comps=6)
    picked = counts.var_names.isin(counts.uns["pca_cosine"]["genes"]["names"])
    x = counts.X.toarray()
    cells = Cells.from_anndata(counts, list(counts.var_names[picked]), library_size_key="not there")
    np.testing.assert_allclose(cells.library_size, x.sum(axis=1))
    z = principal_components(cells, n_comps=6)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    similar = counts.obsm["X_pca_cosine"] @ counts.obsm["X_pca_cosine"].T
    np.testing.assert_allclose(z @ z.T, similar, atol=1e-4)


def test_batches_are_z_scored_apart(build_counts):
    """A factor on half of the genes of one batch, which parts the batches, goes away."""
    adata = build_counts(200, 96, n_batches=2)
    shifted = (adata.obs["donor"] == "donor_1").to_numpy()
    x = adata.X.toarray()
    x[np.ix_(shifted, np.arange(0, 96, 2))] *= 6
    adata.X = x

    def distance_of_batches(**options):
        pca_cosine(adata, n_comps=5, **options)
        z = adata.obsm["X_pca_cosine"]
        return np.linalg.norm(z[shifted].mean(axis=0) - z[~shifted].mean(axis=0))

    assert distance_of_batches(batch_key="donor") < 0.2 * distance_of_batches()
    with pytest.raises(KeyError, match="'site' is not in adata.obs"):
        pca_cosine(adata, batch_key="site")


def test_log_normalised_values_are_taken_when_said(counts):
    counts.X = counts.X.log1p()
    pca_cosine(counts, input="log1p")
    assert counts.obsm["X_pca_cosine"].shape == (120, 20)


def test_fewer_than_one_component_is_refused(counts):
    with pytest.raises(ValueError, match="n_comps is at least 1, found 0"):
        pca_cosine(counts, n_comps=0)
