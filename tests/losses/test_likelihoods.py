"""Likelihoods of counts: equal to scvi-tools', in value and in gradient."""

import pytest
import torch
from scvi.distributions import NegativeBinomial, ZeroInflatedNegativeBinomial

from sc_ssl.losses import count_nll, nb_nll, zinb_nll


def random_parameters(per_gene, *, n=40, g=30, dtype=torch.float32):
    """Counts of which most are 0, and parameters over several orders of magnitude."""
    mean_ng = torch.randn(n, g, dtype=dtype).mul(2).exp()
    dispersion = torch.randn(*((g,) if per_gene else (n, g)), dtype=dtype).mul(2).exp()
    x_ng = torch.poisson(torch.distributions.Gamma(0.3, 0.3 / torch.rand(n, g, dtype=dtype)).sample())
    zero_logits_ng = 2 * torch.randn(n, g, dtype=dtype)
    return x_ng, *(p.requires_grad_() for p in (mean_ng, dispersion, zero_logits_ng))


@pytest.mark.parametrize("per_gene", [True, False])
def test_zinb_equals_scvi_in_value_and_gradient(per_gene):
    x, mean, dispersion, logits = random_parameters(per_gene)
    reference = ZeroInflatedNegativeBinomial(mu=mean, theta=dispersion, zi_logits=logits).log_prob(x)
    ours = zinb_nll(x, mean, dispersion, logits)
    torch.testing.assert_close(ours, -reference.mean(), atol=1e-5, rtol=0)
    gradients = torch.autograd.grad(ours, (mean, dispersion, logits))
    for found, expected in zip(
        gradients, torch.autograd.grad(-reference.mean(), (mean, dispersion, logits)), strict=True
    ):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("per_gene", [True, False])
def test_nb_equals_scvi_in_value_and_gradient(per_gene):
    x, mean, dispersion, _ = random_parameters(per_gene)
    reference = NegativeBinomial(mu=mean, theta=dispersion).log_prob(x)
    ours = nb_nll(x, mean, dispersion)
    torch.testing.assert_close(ours, -reference.mean(), atol=1e-5, rtol=0)
    gradients = torch.autograd.grad(ours, (mean, dispersion))
    for found, expected in zip(gradients, torch.autograd.grad(-reference.mean(), (mean, dispersion)), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)


def test_probabilities_of_all_counts_sum_to_one():
    x = torch.arange(400.0, dtype=torch.float64)[:, None]
    mean, dispersion, logits = (torch.full((400, 1), v, dtype=torch.float64) for v in (3.0, 0.7, 0.4))
    nb = sum(float((-nb_nll(x[[i]], mean[[i]], dispersion[[i]])).exp()) for i in range(400))
    zinb = sum(float((-zinb_nll(x[[i]], mean[[i]], dispersion[[i]], logits[[i]])).exp()) for i in range(400))
    assert nb == pytest.approx(1, abs=1e-9)
    assert zinb == pytest.approx(1, abs=1e-9)


def test_without_zero_inflation_zinb_is_nb():
    x, mean, dispersion, logits = random_parameters(per_gene=True, dtype=torch.float64)
    without = torch.full_like(logits, -1e4)
    torch.testing.assert_close(zinb_nll(x, mean, dispersion, without), nb_nll(x, mean, dispersion))


def test_large_dispersion_is_poisson():
    x, mean, *_ = random_parameters(per_gene=True, dtype=torch.float64)
    poisson = -torch.distributions.Poisson(mean).log_prob(x).mean()
    torch.testing.assert_close(
        nb_nll(x, mean, torch.full((x.shape[1],), 1e7, dtype=torch.float64)), poisson, rtol=1e-3, atol=0
    )


@pytest.mark.parametrize("mean", [1e-5, 1e6])
@pytest.mark.parametrize("dispersion", [1e-4, 1e4])
@pytest.mark.parametrize("logit", [-40.0, 40.0])
def test_extreme_parameters_give_finite_losses_and_gradients(mean, dispersion, logit):
    x = torch.tensor([[0.0, 1.0, 1e5]])
    parameters = [torch.full((1, 3), value, requires_grad=True) for value in (mean, dispersion, logit)]
    loss = zinb_nll(x, *parameters)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in parameters)


def test_cells_without_counts_have_a_loss():
    x, mean, dispersion, logits = random_parameters(per_gene=True)
    assert torch.isfinite(zinb_nll(torch.zeros_like(x), mean, dispersion, logits))


@pytest.mark.parametrize("per_gene", [True, False])
def test_weights_make_the_weighted_sum_of_each_entrys_value(per_gene):
    x, mean, dispersion, logits = random_parameters(per_gene, dtype=torch.float64)
    weight = torch.rand_like(mean)
    for parameters, distribution in (
        ((mean, dispersion, logits), ZeroInflatedNegativeBinomial(mu=mean, theta=dispersion, zi_logits=logits)),
        ((mean, dispersion, None), NegativeBinomial(mu=mean, theta=dispersion)),
        ((mean, None, None), torch.distributions.Poisson(mean)),
    ):
        expected = -distribution.log_prob(x)
        torch.testing.assert_close(count_nll(x, *parameters, weight), (weight * expected).sum(), atol=1e-3, rtol=1e-5)
        torch.testing.assert_close(count_nll(x, *parameters), expected.mean(), atol=1e-5, rtol=1e-5)
