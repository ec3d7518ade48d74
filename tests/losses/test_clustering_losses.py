"""Clustering losses: the papers' formulas, written out anew."""

import numpy as np
import pytest
import torch

from sc_ssl.losses import (
    assignment_kl,
    pairwise_similarity_kl,
    soft_kmeans,
    squared_distance,
    student_t_assignment,
    target_distribution,
)


def cells_and_centers(n=9, k=4, d=3):
    return torch.randn(n, d, dtype=torch.float64), torch.randn(k, d, dtype=torch.float64)


def distances_by_hand(a, b):
    return np.array([[((x - y) ** 2).sum() for y in b.numpy()] for x in a.numpy()])


def rows_normalised(a):
    return a / a.sum(axis=1, keepdims=True)


def test_squared_distance_is_the_formula_and_never_negative():
    z, centers = cells_and_centers()
    np.testing.assert_allclose(squared_distance(z, centers), distances_by_hand(z, centers))
    assert (squared_distance(100 + 1e-4 * torch.randn(50, 8), 100 + 1e-4 * torch.randn(50, 8)) >= 0).all()


def test_student_t_assignment_is_the_formula():
    z, centers = cells_and_centers()
    expected = rows_normalised(1 / (1 + distances_by_hand(z, centers)))
    np.testing.assert_allclose(student_t_assignment(z, centers), expected)


def test_target_distribution_is_the_formula():
    z, centers = cells_and_centers()
    q = student_t_assignment(z, centers)
    expected = rows_normalised(q.numpy() ** 2 / q.numpy().sum(axis=0))
    np.testing.assert_allclose(target_distribution(q, q.sum(dim=0)), expected)


def test_target_is_sharper_carries_no_gradient_and_takes_any_scale_of_the_frequencies():
    z, centers = cells_and_centers()
    q = student_t_assignment(z.requires_grad_(), centers)
    p = target_distribution(q, torch.ones(4))
    assert not p.requires_grad
    assert (p.max(dim=1).values > q.max(dim=1).values).all()
    torch.testing.assert_close(target_distribution(q, torch.full((4,), 7.0)), p)


def test_assignment_kl_is_the_mean_over_cells_and_0_for_equals():
    p = torch.rand(6, 3, dtype=torch.float64).softmax(dim=1)
    q = torch.rand(6, 3, dtype=torch.float64).softmax(dim=1)
    expected = (p.numpy() * np.log(p.numpy() / q.numpy())).sum() / 6
    assert assignment_kl(p, q).item() == pytest.approx(expected)
    assert assignment_kl(p, p).item() == pytest.approx(0, abs=1e-12)
    assert assignment_kl(p.repeat(5, 1), q.repeat(5, 1)).item() == pytest.approx(expected)


def test_soft_kmeans_is_the_formula():
    z, centers = cells_and_centers()
    distance = distances_by_hand(z, centers)
    weight = rows_normalised(np.exp(-(distance - distance.min(axis=1, keepdims=True))))
    weight = rows_normalised(weight**2)
    assert soft_kmeans(z, centers).item() == pytest.approx((weight * distance).sum(axis=1).mean())


def test_soft_kmeans_pulls_cells_straight_to_their_centre():
    z = torch.tensor([[1.0, 0.0], [10.0, 0.0]], requires_grad=True)
    soft_kmeans(z, torch.tensor([[0.0, 0.0], [10.0, 3.0]])).backward()
    torch.testing.assert_close(z.grad, torch.tensor([[1.0, 0.0], [0.0, -3.0]]), atol=1e-5, rtol=0)


def test_pairwise_similarity_kl_is_the_formula():
    z, _ = cells_and_centers()
    similarity = 1 / (1 + distances_by_hand(z, z))
    np.fill_diagonal(similarity, 0)
    p = rows_normalised(similarity)
    q = rows_normalised(p**2)
    off = ~np.eye(len(z), dtype=bool)
    expected = (q[off] * np.log(q[off] / p[off])).sum() / len(z)
    assert pairwise_similarity_kl(z).item() == pytest.approx(expected)


def test_pairwise_similarity_kl_does_not_grow_with_the_minibatch():
    z = torch.randn(1024, 8)
    of_256 = torch.stack([pairwise_similarity_kl(part) for part in z.split(256)]).mean()
    assert pairwise_similarity_kl(z).item() == pytest.approx(of_256.item(), rel=0.05)


@pytest.mark.parametrize("n", [1, 2])
def test_pairwise_similarity_kl_of_too_few_cells_to_compare_is_0(n):
    z = torch.randn(n, 3, requires_grad=True)
    loss = pairwise_similarity_kl(z)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-9)
    assert torch.isfinite(z.grad).all()
