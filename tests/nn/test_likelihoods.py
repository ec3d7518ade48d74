"""From an embedding to the parameters of the counts."""

import pytest
import torch

from sc_ssl.nn import CountDecoder


def build(**options):
    return CountDecoder(4, [16], 7, norm="layer", **options)


@pytest.mark.parametrize(("dispersion_per", "shape"), [("gene", (7,)), ("entry", (5, 7))])
@pytest.mark.parametrize("zero_inflated", [True, False])
def test_shapes_and_ranges(dispersion_per, shape, zero_inflated):
    decoder = build(dispersion_per=dispersion_per, zero_inflated=zero_inflated)
    mean, dispersion, logits = decoder(100 * torch.randn(5, 4), torch.ones(5, 1))
    assert mean.shape == (5, 7)
    assert dispersion.shape == shape
    assert logits.shape == (5, 7) if zero_inflated else logits is None
    assert (mean > 0).all()
    assert (dispersion > 0).all()


def test_mean_is_proportional_to_the_library_size_and_nothing_else_is():
    decoder, z = build(dispersion_per="entry"), torch.randn(5, 4)
    mean, *others = decoder(z, torch.ones(5, 1))
    mean_3, *others_3 = decoder(z, torch.full((5, 1), 3.0))
    torch.testing.assert_close(mean_3, 3 * mean)
    assert all(torch.equal(a, b) for a, b in zip(others, others_3, strict=True))


def test_decoder_starts_at_the_given_means():
    decoder = build()
    for layer in decoder.network:
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.zeros_(layer.weight)
    expected = torch.tensor([0.0, 0.1, 1.0, 2.0, 5.0, 100.0, 0.5])
    decoder.start_at(expected)
    mean, *_ = decoder(torch.randn(3, 4), torch.ones(3, 1))
    torch.testing.assert_close(mean, expected.clamp(min=1e-5).expand(3, -1), rtol=1e-4, atol=0)


def test_overflowing_outputs_stay_finite_with_finite_gradients():
    decoder = build()
    decoder.network[-1].bias.data[:7] = 1e4
    mean, *_ = decoder(torch.randn(2, 4), torch.ones(2, 1))
    mean.sum().backward()
    assert torch.isfinite(mean).all()
    assert all(torch.isfinite(p.grad).all() for p in decoder.network.parameters())


def test_unknown_dispersion_is_refused():
    with pytest.raises(ValueError, match="'gene' or 'entry', found 'cell'"):
        build(dispersion_per="cell")


def test_poisson_has_a_mean_and_nothing_else():
    decoder = build(dispersion_per=None, zero_inflated=False)
    parameters = decoder(torch.randn(5, 4), torch.ones(5, 1))
    assert parameters.dispersion is None
    assert torch.equal(parameters.expected_ng, parameters.mean_ng)
    assert len(list(decoder.parameters())) == len(list(decoder.network.parameters()))
    with pytest.raises(ValueError, match="Poisson .* is not zero-inflated"):
        build(dispersion_per=None)


def test_expected_counts_are_what_is_left_of_the_mean():
    mean, _, logits = parameters = build()(torch.randn(5, 4), torch.ones(5, 1))
    torch.testing.assert_close(parameters.expected_ng, mean * (1 - logits.sigmoid()))
