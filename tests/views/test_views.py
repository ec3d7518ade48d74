"""Noise on cells."""

import pytest
import torch

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
