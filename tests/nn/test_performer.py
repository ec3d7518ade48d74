"""Attention with padding, exact and by random features."""

import pytest
import torch
import torch.nn.functional as F

from sc_ssl.nn import RandomFeatures, Transformer


def heads(n=3, t=20, k=8, scale=0.5):
    return [scale * torch.randn(n, 2, t, k) for _ in range(3)]


def test_many_features_come_close_to_softmax_attention():
    query, key, value = heads()
    exact = F.scaled_dot_product_attention(query, key, value)
    close = RandomFeatures(8, 4096)(query, key, value)
    assert (close - exact).norm() / exact.norm() < 0.1


def test_directions_are_orthogonal_within_a_block():
    direction = RandomFeatures(8, 12).direction_mk
    gram = direction[:8] @ direction[:8].T
    assert direction.shape == (12, 8)
    torch.testing.assert_close(gram, torch.diag(gram.diag()), atol=1e-5, rtol=0)


@pytest.mark.parametrize("attention", ["exact", "performer"])
def test_padding_and_other_cells_change_nothing(attention):
    encoder = Transformer(16, 2, 2, head_width=12, attention=attention).eval()
    token = torch.randn(3, 9, 16)
    padded = torch.cat([token, 100 * torch.randn(3, 5, 16)], dim=1)
    real = torch.arange(14).expand(3, 14) < 9
    with torch.no_grad():
        alone = torch.cat([encoder(token[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(encoder(padded, real)[:, :9], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("attention", ["exact", "performer"])
def test_gradients_are_finite_with_padding(attention):
    encoder = Transformer(16, 2, 2, dropout_rate=0.1, attention=attention)
    encoder(torch.randn(3, 9, 16), torch.arange(9).expand(3, 9) < torch.tensor([[1], [4], [9]])).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters())


def test_head_width_sets_the_inner_width():
    encoder = Transformer(16, 1, 4, head_width=8)
    assert encoder.blocks[0].attention.out.in_features == 32


def test_unknown_kernel_is_refused():
    with pytest.raises(ValueError, match="'exact', 'performer', found 'flash'"):
        Transformer(16, 1, 2, attention="flash")
