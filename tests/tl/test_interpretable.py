import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from sc_ssl.tl import embed, explain, interpretable


def sparse_factors(n=300, d=5, seed=0):
    """Each cell has a large value in one dimension; and a random rotation."""
    rng = np.random.default_rng(seed)
    z_nd = rng.normal(scale=0.05, size=(n, d))
    z_nd[np.arange(n), np.arange(n) % d] += rng.exponential(size=n) * np.linspace(2, 1, d)[np.arange(n) % d]
    return z_nd, np.linalg.qr(rng.normal(size=(d, d))).Q


def test_axes_of_sparse_factors_come_back(build_counts):
    z_nd, turn = sparse_factors()
    cells = build_counts(n_cells=300)
    cells.obsm["X_turned"] = (z_nd @ turn).astype(np.float32)
    interpretable(cells, "X_turned")
    found = cells.obsm["X_turned_varimax"]
    correlation = np.abs(np.corrcoef(found.T, z_nd.T)[:5, 5:])
    assert (correlation.max(axis=0) > 0.98).all()
    before, after = cells.uns["turned_varimax"]["sparsity"]
    assert after > before


def test_embedding_comes_back_and_neighbours_stay(counts):
    embed(counts, "pca_cosine", n_latent=6)
    interpretable(counts, "X_pca_cosine")
    rotated, rotation = counts.obsm["X_pca_cosine_varimax"], counts.uns["pca_cosine_varimax"]["rotation"]
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(6), atol=1e-9)
    np.testing.assert_allclose(rotated @ rotation.T, counts.obsm["X_pca_cosine"], atol=1e-5)
    near = [NearestNeighbors(n_neighbors=5).fit(z).kneighbors()[1] for z in (rotated, counts.obsm["X_pca_cosine"])]
    np.testing.assert_array_equal(*near)
    assert (np.diff(rotated.var(axis=0)) <= 1e-6).all()


def test_dimensions_have_the_programme_of_their_group(counts):
    embed(counts, "pca_cosine", n_latent=3)
    programs = {f"markers {t}": [f"gene_{g}" for g in range(t * 16, t * 16 + 12)] for t in range(3)}
    explain(counts, "pca_cosine", groupby="cell_type", programs=programs)
    interpretable(counts, "X_pca_cosine", explained="pca_cosine")
    names = counts.uns["pca_cosine_varimax"]["names"]
    assert all(name.split(": ")[1] == f"markers {name[5]}" for name in names)
    assert len({*names[:2]}) == 2


def test_what_is_not_there_is_named(counts):
    with pytest.raises(KeyError, match="'X_masksc' is not in adata.obsm"):
        interpretable(counts)
    embed(counts, "pca_cosine", n_latent=3)
    with pytest.raises(KeyError, match="no explanation"):
        interpretable(counts, "X_pca_cosine", explained="pca_cosine")
    counts.obsm["X_pca_cosine"][3, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        interpretable(counts, "X_pca_cosine")
