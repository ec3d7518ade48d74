import numpy as np
import pytest
import torch

from sc_ssl.models.masksc.patches import patch_layout, random_mask, to_patches
from sc_ssl.views import gaussian_noise, gene_dropout


def test_gene_dropout_hides_the_stated_share_and_keeps_the_mean():
    x = torch.ones(400, 500)
    view = gene_dropout(x, 0.9)
    assert view.unique().tolist() == pytest.approx([0.0, 10.0])
    assert (view == 0).float().mean() == pytest.approx(0.9, abs=0.01)
    assert view.mean() == pytest.approx(1.0, abs=0.05)


def test_gaussian_noise_has_the_stated_sd_around_the_cell():
    x = torch.arange(500.0).expand(400, -1)
    noise = gaussian_noise(x, 2.5) - x
    assert noise.std() == pytest.approx(2.5, rel=0.01)
    assert noise.mean() == pytest.approx(0.0, abs=0.03)
    assert torch.equal(gaussian_noise(x, 0.0), x)
    with pytest.raises(ValueError, match="at least 0, found -1"):
        gaussian_noise(x, -1)


def test_gene_dropout_is_drawn_for_each_cell_alone():
    view = gene_dropout(torch.ones(2, 1000), 0.5)
    assert not torch.equal(view[0], view[1])


def test_a_rate_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"rate is a probability in \[0, 1\), found 1"):
        gene_dropout(torch.ones(2, 2), 1)
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
    with pytest.raises(ValueError, match="square number of genes, found patch_size=8"):
        patch_layout(torch.arange(64), 8, square=True)


def test_patches_hold_the_values_of_their_genes_and_zero_where_there_is_none():
    x = torch.randn(3, 10)
    patches = to_patches(x, patch_layout(torch.arange(10), 4))
    assert torch.equal(patches.flatten(1)[:, :10], x)
    assert (patches.flatten(1)[:, 10:] == 0).all()
