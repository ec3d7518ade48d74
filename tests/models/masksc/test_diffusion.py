"""Places of cells in their neighbour graph."""

import numpy as np

from sc_ssl.models.masksc.targets import N_STEPS, diffusion_components, shared_neighbors


def blobs(sizes, *, n_features=6, seed=0):
    """Groups of these sizes, each around a direction of its own."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    return (np.eye(n_features)[group] * 10 + rng.normal(size=(len(group), n_features))).astype(np.float32), group


def test_shared_neighbours_are_the_jaccard_index():
    neighbors = np.array([[0, 1, 2], [1, 0, 2], [2, 3, 1], [3, 2, 4], [4, 3, 2]])
    sets = [set(row) for row in neighbors]
    expected = np.array([[len(a & b) / len(a | b) for b in sets] for a in sets])
    np.testing.assert_allclose(shared_neighbors(neighbors).toarray(), expected, atol=1e-6)


def test_components_equal_the_dense_eigenvectors():
    x, _ = blobs([20, 25, 15])
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    order = np.argsort(-(unit @ unit.T), axis=1)[:, :7]  # 6 neighbours and the cell itself
    weight = shared_neighbors(order).toarray()
    degree = weight.sum(axis=1)
    value, vector = np.linalg.eigh(weight / np.sqrt(np.outer(degree, degree)))
    expected = vector * np.clip(value, 0, 1) ** N_STEPS
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    found = diffusion_components(x, 6, 30)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-3)  # free of signs and rotations


def test_groups_are_tight_and_equally_far_apart_however_large():
    x, group = blobs([400, 60, 25])
    cosine = diffusion_components(x, 8, 20) @ diffusion_components(x, 8, 20).T
    same = group[:, None] == group
    assert cosine[same].min() > 0.9
    assert np.abs(cosine[~same]).max() < 0.1


def test_components_repeat_and_leave_the_random_state_alone():
    x, _ = blobs([30, 30])
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    first = diffusion_components(x, 5, 10)
    assert (np.random.get_state()[1] == before).all()
    np.testing.assert_array_equal(first, diffusion_components(x, 5, 10))
    assert first.dtype == np.float32


def test_more_components_than_the_cells_have_are_zero():
    x, _ = blobs([6, 6])
    found = diffusion_components(x, 5, 50)
    assert found.shape == (12, 50)
    assert not found[:, 11:].any()
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
