import numpy as np
import pytest
import torch

from sc_ssl.losses import nt_xent, scored_weight, squared_error


def nt_xent_by_hand(a, b, temperature):
    z = np.concatenate([a, b])
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    n, losses = len(a), []
    for i in range(2 * n):
        other = (i + n) % (2 * n)
        denominator = sum(np.exp(z[i] @ z[j] / temperature) for j in range(2 * n) if j != i)
        losses.append(-np.log(np.exp(z[i] @ z[other] / temperature) / denominator))
    return np.mean(losses)


def test_nt_xent_equals_the_formula():
    a, b = np.random.randn(2, 5, 4)
    loss = nt_xent(torch.as_tensor(a), torch.as_tensor(b), 0.3)
    assert loss.item() == pytest.approx(nt_xent_by_hand(a, b, 0.3))


def test_nt_xent_does_not_mind_length_order_of_cells_or_of_views():
    a, b = torch.randn(2, 6, 4, dtype=torch.float64)
    loss, order = nt_xent(a, b), torch.randperm(6)
    for other in (nt_xent(b, a), nt_xent(3 * a, b / 2), nt_xent(a[order], b[order])):
        torch.testing.assert_close(other, loss)


def test_nt_xent_is_small_when_views_agree_and_cells_differ():
    z = torch.eye(8)
    assert nt_xent(z, z, 0.05) < 1e-3 < nt_xent(z, z.roll(1, 0), 0.05)


def test_nt_xent_in_stripes_has_the_loss_and_the_gradient_of_the_whole(monkeypatch):
    a, b = torch.randn(2, 11, 4, dtype=torch.float64)
    found = []
    for block in (22**2, 7 * 22, 5 * 22):
        monkeypatch.setattr("sc_ssl.losses.contrastive.BLOCK", block)
        views = a.clone().requires_grad_(), b.clone().requires_grad_()
        loss = nt_xent(*views, 0.2)
        found.append((loss, *torch.autograd.grad(loss, views)))
    for stripes in found[1:]:
        torch.testing.assert_close(stripes, found[0], rtol=1e-12, atol=1e-14)


def test_nt_xent_in_stripes_keeps_sums_in_single_precision(monkeypatch):
    a, b = torch.randn(2, 600, 16)
    expected = nt_xent(a, b, 0.2)
    monkeypatch.setattr("sc_ssl.losses.contrastive.BLOCK", 6000)
    found = nt_xent(a.bfloat16(), b.bfloat16(), 0.2)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=0)


def test_squared_error_is_a_mean_and_one_for_the_mean_of_a_standardised_target():
    target = torch.randn(200, 10, 30)
    target = (target - target.mean()) / target.std()
    assert squared_error(torch.zeros_like(target), target).item() == pytest.approx(1.0, abs=1e-3)


def test_squared_error_passes_no_gradient_to_its_target():
    predicted, target = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    squared_error(predicted, target).backward()
    assert predicted.grad is not None and target.grad is None


def test_weighted_squared_error_is_the_mean_over_cells_of_what_each_has_scored():
    predicted, target = torch.randn(2, 4, 6)
    scored = torch.tensor([[1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]]).bool()
    error = (predicted - target) ** 2
    expected = (error[0, :2].mean() + error[1].mean() + error[3, 5]) / 3
    torch.testing.assert_close(squared_error(predicted, target, scored_weight(scored)), expected)
    assert not scored_weight(scored[2:3]).any()
