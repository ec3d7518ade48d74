"""Patches of genes: layouts, masks and their embedding."""

import numpy as np
import pytest
import torch

from sc_ssl.models.masksc.patches import ConvPatchEmbed, LocalPatchEmbed, patch_layout, random_mask, to_patches


def test_a_mask_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"in \(0, 1\), found 0"):
        random_mask(2, 4, 0)
    with pytest.raises(ValueError, match="at least 2 tokens, found 1"):
        random_mask(2, 1, 0.5)


@pytest.mark.parametrize(
    ("n_tokens", "rate", "n_visible"),
    [(81, 0.75, 20), (256, 0.75, 64), (400, 0.75, 100), (256, 0.1, 230), (2, 0.9, 1), (2, 0.1, 1)],
)
def test_random_mask_shows_and_hides_every_token_once(n_tokens, rate, n_visible):
    mask = random_mask(7, n_tokens, rate)
    assert mask.visible_nv.shape == (7, n_visible)
    both = torch.cat([mask.visible_nv, mask.hidden_nm], dim=1).sort(dim=1).values
    assert torch.equal(both, torch.arange(n_tokens).expand(7, -1))


def test_random_mask_is_uniform_over_tokens():
    hidden = random_mask(4000, 8, 0.75).hidden_nm
    share = torch.bincount(hidden.flatten(), minlength=8) / 4000
    assert torch.allclose(share, torch.full((8,), 0.75), atol=0.04)


def test_layout_takes_every_gene_once_in_the_order_given():
    order = torch.randperm(10)
    layout = patch_layout(order, 4)
    assert layout.shape == (3, 4)
    assert torch.equal(layout.flatten()[:10], order)
    assert (layout.flatten()[10:] == -1).all()


def test_square_layout_equals_cutting_the_matrix_into_squares():
    layout = patch_layout(torch.arange(64), 16, square=True)
    matrix = np.arange(64).reshape(8, 8)
    assert layout[1].tolist() == matrix[:4, 4:].flatten().tolist()
    assert layout[2].tolist() == matrix[4:, :4].flatten().tolist()


def test_square_layout_pads_and_drops_empty_squares():
    layout = patch_layout(torch.arange(2000), 16, square=True)
    assert sorted(layout[layout >= 0].tolist()) == list(range(2000))
    assert (layout >= 0).any(dim=1).all()
    with pytest.raises(ValueError, match="square number of genes, found a size of 8"):
        patch_layout(torch.arange(64), 8, square=True)


def test_patches_hold_the_values_of_their_genes_and_zero_where_there_is_none():
    x = torch.randn(3, 10)
    patches = to_patches(x, patch_layout(torch.arange(10), 4))
    assert torch.equal(patches.flatten(1)[:, :10], x)
    assert (patches.flatten(1)[:, 10:] == 0).all()


def test_local_embedding_is_value_times_the_genes_own_vector():
    embed = LocalPatchEmbed(3, 4, 5)
    x = torch.randn(2, 3, 4)
    expected = torch.stack([x[:, t] @ embed.weight_tpd[t] for t in range(3)], dim=1)
    torch.testing.assert_close(embed(x), expected)


def test_conv_embedding_equals_the_papers_convolution():
    embed = ConvPatchEmbed(4, 16, 6)
    matrix = torch.randn(2, 1, 8, 8)
    conv = torch.nn.Conv2d(1, 6, kernel_size=4, stride=4)
    with torch.no_grad():
        conv.weight.copy_(embed.weight.view(6, 1, 4, 4))
        conv.bias.copy_(embed.bias)
    squares = matrix.view(2, 2, 4, 2, 4).transpose(2, 3).reshape(2, 4, 16)
    torch.testing.assert_close(embed(squares), conv(matrix).flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-5)
