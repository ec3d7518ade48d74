"""Principal components from sparse counts: those of the dense z-scores, without making them."""

import numpy as np
import pytest
import torch
from anndata import AnnData
from scipy import sparse

from sc_ssl.data import Cells, gene_loadings, gene_statistics, principal_components
from sc_ssl.nn import LogNormalize


def read(adata, **options):
    return Cells.from_anndata(adata, list(adata.var_names), **options)


def dense_components(cells, n_comps, *, n_batch, clip, log_input=False, weight_g=None):
    """The formula written out: singular vectors of the centred, normalised matrix."""
    normalize = LogNormalize(cells.n_genes, n_batch, clip=clip, log_input=log_input)
    target_sum, mean_bg, sd_bg = gene_statistics(cells, n_batch=n_batch, log_input=log_input)
    normalize.set_statistics(target_sum, torch.tensor(mean_bg), torch.tensor(sd_bg), weight_g)
    minibatch = {
        "X": torch.tensor(cells.matrix.toarray()),
        "library_size": torch.tensor(cells.library_size)[:, None],
        "batch": torch.tensor(cells.batch)[:, None],
    }
    z_ng = normalize(minibatch).numpy().astype(np.float64)
    u, s, _ = np.linalg.svd(z_ng - z_ng.mean(axis=0), full_matrices=False)
    return (u * s)[:, :n_comps]


@pytest.mark.parametrize("n_batch", [1, 3])
@pytest.mark.parametrize("clip", [10.0, 0.7], ids=["hardly clips", "clips zeros too"])
def test_components_are_those_of_the_normalised_matrix(build_counts, n_batch, clip):
    adata = build_counts(n_batches=n_batch)
    cells = read(adata, batch_key="donor", batches=sorted(adata.obs["donor"].unique()))
    statistics = gene_statistics(cells, n_batch=n_batch, log_input=False)
    found = principal_components(cells, n_comps=4, statistics=statistics, clip=clip)
    expected = dense_components(cells, 4, n_batch=n_batch, clip=clip)
    # components are defined up to their sign
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=2e-4)


def test_log_normalised_input_is_only_z_scored(counts):
    counts.X = counts.X.log1p() * 0.37
    cells = read(counts, input="log1p")
    found = principal_components(cells, n_comps=3, log_input=True)
    expected = dense_components(cells, 3, n_batch=1, clip=10, log_input=True)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=2e-4)


def test_weights_multiply_the_clipped_z_scores(counts):
    weight_g = np.linspace(0, 2, 96)
    found = principal_components(read(counts), n_comps=3, weight_g=weight_g, clip=1.0)
    expected = dense_components(read(counts), 3, n_batch=1, clip=1.0, weight_g=torch.tensor(weight_g))
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=2e-4)


def test_signs_are_fixed_and_bits_repeat(counts):
    first = principal_components(read(counts), n_comps=5)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(principal_components(read(counts), n_comps=5), first)


def test_more_components_than_there_are_become_fewer(build_counts):
    assert principal_components(read(build_counts(12, 96)), n_comps=50).shape == (12, 11)
    assert principal_components(read(build_counts(120, 9)), n_comps=50).shape == (120, 8)


def test_the_matrix_is_never_dense():
    """100,000 × 50,000 z-scores would take 40 GB."""
    n_cells, n_genes, n_values = 100_000, 50_000, 300_000
    rng = np.random.default_rng(0)
    value = rng.integers(1, 9, n_values).astype(np.float32)
    where = rng.integers(0, n_cells, n_values), rng.integers(0, n_genes, n_values)
    counts = sparse.csr_matrix((value, where), shape=(n_cells, n_genes))
    assert principal_components(read(AnnData(counts)), n_comps=2).shape == (n_cells, 2)


def test_cells_that_are_all_alike_are_refused(counts):
    counts.X = sparse.csr_matrix(np.ones(counts.shape, np.float32))
    with pytest.raises(ValueError, match="no gene varies: all 120 cells are alike"):
        principal_components(read(counts), n_comps=2)


def test_loadings_are_unit_vectors_that_lead_to_the_components(build_counts):
    cells = read(build_counts())
    weight_g = np.linspace(0.5, 2, cells.n_genes)
    loading_gc = gene_loadings(cells, n_comps=4, weight_g=weight_g)
    np.testing.assert_allclose(loading_gc.T @ loading_gc, np.eye(4), atol=1e-5)
    target_sum, mean_bg, sd_bg = gene_statistics(cells, n_batch=1, log_input=False)
    x_ng = np.log1p(cells.matrix.toarray() * (target_sum / cells.library_size)[:, None])
    z_ng = np.clip((x_ng - mean_bg[0]) / sd_bg[0], -10, 10) * weight_g
    found = (z_ng - z_ng.mean(axis=0)) @ loading_gc
    np.testing.assert_allclose(found, principal_components(cells, n_comps=4, weight_g=weight_g), atol=1e-3)
