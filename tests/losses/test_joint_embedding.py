import numpy as np
import pytest
import torch

from sc_ssl.losses import barlow_twins, negative_cosine, vicreg


def centred_white(n=64, d=5):
    z = torch.randn(n, d, dtype=torch.float64)
    return torch.linalg.qr(z - z.mean(0))[0] * n**0.5


def test_negative_cosine_is_half_the_squared_distance_of_unit_vectors():
    p, t = torch.randn(2, 7, 4)
    unit_p, unit_t = (v / v.norm(dim=1, keepdim=True) for v in (p, t))
    torch.testing.assert_close(2 + 2 * negative_cosine(p, t), (unit_p - unit_t).square().sum(dim=1).mean())


def test_negative_cosine_moves_the_prediction_alone():
    p, t = torch.randn(2, 7, 4, requires_grad=True).unbind()
    p, t = p.detach().requires_grad_(), t.detach().requires_grad_()
    negative_cosine(p, t).backward()
    assert p.grad.any()
    assert t.grad is None


def test_barlow_twins_equals_the_formula():
    a, b = np.random.randn(2, 30, 6)
    c = np.corrcoef(a.T, b.T)[:6, 6:]
    expected = ((1 - np.diag(c)) ** 2).sum() + 0.3 * (c**2).sum() - 0.3 * (np.diag(c) ** 2).sum()
    found = barlow_twins(torch.as_tensor(a), torch.as_tensor(b), 0.3).item()
    assert found == pytest.approx(expected, rel=1e-3)


def test_barlow_twins_is_nought_for_equal_white_views_and_ignores_scale_and_shift():
    z = centred_white()
    assert barlow_twins(z, z).item() == pytest.approx(0, abs=1e-6)
    other = torch.randn_like(z)
    torch.testing.assert_close(barlow_twins(z * 30 + 1, other), barlow_twins(z, other), atol=1e-3, rtol=1e-3)


def test_barlow_twins_is_above_nought_where_all_cells_are_one_point():
    assert barlow_twins(torch.ones(20, 6), torch.ones(20, 6)).item() == pytest.approx(6)


def test_vicreg_equals_the_formula():
    a, b = np.random.randn(2, 30, 6) * 0.7
    expected = 5.0 * ((a - b) ** 2).mean()
    for z in (a, b):
        expected += 3.0 * np.maximum(0, 1 - np.sqrt(z.var(axis=0, ddof=1) + 1e-4)).mean() / 2
        cov = np.cov(z.T)
        expected += 2.0 * (cov**2 - np.diag(np.diag(cov) ** 2)).sum() / 6
    weights = {"invariance_weight": 5.0, "variance_weight": 3.0, "covariance_weight": 2.0}
    assert vicreg(torch.as_tensor(a), torch.as_tensor(b), **weights).item() == pytest.approx(expected, rel=1e-6)


def test_vicreg_of_equal_white_views_is_nought_and_of_a_point_is_not():
    z = 1.1 * centred_white()
    assert vicreg(z, z).item() == pytest.approx(0, abs=1e-9)
    assert vicreg(torch.ones(20, 6), torch.ones(20, 6)).item() == pytest.approx(25 * (1 - 0.01), rel=1e-3)


def test_vicreg_of_one_cell_is_a_number():
    assert vicreg(torch.ones(1, 6), torch.ones(1, 6)).item() == pytest.approx(25 * (1 - 0.01), rel=1e-3)
