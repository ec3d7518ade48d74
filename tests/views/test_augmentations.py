import pytest
import torch

from sc_ssl.nn import LogNormalize
from sc_ssl.views import (
    Augmentations,
    BinomialThinning,
    GaussianNoise,
    GeneDropout,
    GenePrograms,
    NegativeBinomialNoise,
    ProgramDropout,
    binomial_thinning,
    gaussian_noise_on_expressed,
    negative_binomial_noise,
)


def minibatch(n=300, g=200):
    x_ng = torch.poisson(torch.rand(n, g) * 6) * (torch.rand(n, g) < 0.3)
    return {"X": x_ng, "library_size": x_ng.sum(dim=1, keepdim=True), "batch": torch.zeros(n, 1, dtype=torch.long)}


def programs(g=200):
    return torch.rand(12, g) < 0.1


def parts():
    return {
        "thinning": BinomialThinning(0.8),
        "nb": NegativeBinomialNoise(5.0),
        "gaussian": GaussianNoise(0.5),
        "dropout": GeneDropout(0.5),
        "programs": ProgramDropout(GenePrograms(programs(), 0.4)),
    }


def normalizer(g=200):
    normalize = LogNormalize(g)
    normalize.set_statistics(100.0, torch.full((2, g), 0.5), torch.full((2, g), 2.0))
    return normalize


@pytest.mark.parametrize("name", parts())
def test_every_part_makes_another_view_of_each_cell_and_leaves_the_cells_alone(name):
    view, cells, normalize = Augmentations([parts()[name]]), minibatch(), normalizer()
    before = {key: tensor.clone() for key, tensor in cells.items()}
    first, second = view(cells, normalize), view(cells, normalize)
    assert first.shape == (300, 200)
    assert (first != second).any(dim=1).all()
    assert torch.isfinite(first).all()
    assert all(torch.equal(cells[key], tensor) for key, tensor in before.items())


def test_parts_act_in_the_order_counts_log_z():
    view = Augmentations([parts()[name] for name in ("dropout", "gaussian", "nb", "thinning")])
    assert [part.stage for part in view.parts] == ["counts", "counts", "log", "z"]


def test_views_of_z_scores_take_what_was_normalised_before():
    z_ng = torch.randn(50, 200)
    shown = Augmentations([GeneDropout(0.5)])({"normalized": z_ng}, normalizer())
    hidden = shown == 0
    torch.testing.assert_close(shown[~hidden], 2 * z_ng[~hidden])
    assert hidden.float().mean() == pytest.approx(0.5, abs=0.03)


def test_thinning_keeps_the_share_of_each_cell():
    x_ng = torch.full((2, 5000), 6.0)
    thinned = binomial_thinning(x_ng, torch.tensor([[0.25], [1.0]]))
    assert torch.equal(thinned[1], x_ng[1])
    assert thinned[0].mean() == pytest.approx(1.5, abs=0.05)
    assert thinned[0].var() == pytest.approx(6 * 0.25 * 0.75, abs=0.08)


def test_thinned_cells_keep_their_expected_expression():
    cells = {"X": torch.full((2000, 40), 500.0), "library_size": torch.full((2000, 1), 20_000.0)}
    x_ng, library_size_n1 = BinomialThinning(0.9)(**{"x_ng": cells["X"], "library_size_n1": cells["library_size"]})
    torch.testing.assert_close(x_ng / library_size_n1, cells["X"] / cells["library_size"], atol=0.02, rtol=0)
    kept = library_size_n1 / 20_000
    assert kept.min() >= 0.1
    assert kept.log().mean() == pytest.approx(torch.tensor(0.1).log().item() / 2, rel=0.05)  # log-uniform


def test_negative_binomial_noise_has_its_mean_and_variance_and_keeps_zeros():
    x_ng = torch.tensor([[0.0], [8.0]]).expand(2, 40_000)
    noisy = negative_binomial_noise(x_ng, 4.0)
    assert not noisy[0].any()
    assert noisy[1].mean() == pytest.approx(8, rel=0.02)
    assert noisy[1].var() == pytest.approx(8 + 64 / 4, rel=0.05)
    assert torch.equal(noisy, noisy.round())


def test_gaussian_noise_leaves_what_is_not_expressed_and_never_falls_below_zero():
    log_ng = torch.tensor([[0.0], [0.2], [50.0]]).expand(3, 40_000)
    noisy = gaussian_noise_on_expressed(log_ng, 0.7)
    assert not noisy[0].any()
    assert noisy[1].min() == 0
    assert noisy[2].std() == pytest.approx(0.7, rel=0.02)


def test_programme_dropout_hides_whole_programmes():
    masking = GenePrograms(programs(), 0.4)
    z_ng = torch.ones(100, 200)
    shown = ProgramDropout(masking)(z_ng)
    assert ((shown == 0).sum(dim=1) >= masking.n_hidden).all()
    torch.testing.assert_close(shown.sum(dim=1), torch.full((100,), 200.0))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BinomialThinning(1.0), r"thinning lies in \(0, 1\), found 1.0"),
        (lambda: NegativeBinomialNoise(0.0), "dispersion .* above 0, found 0.0"),
        (lambda: GaussianNoise(0.0), "sd .* above 0, found 0.0"),
        (lambda: GeneDropout(0.0), r"dropout lies in \(0, 1\), found 0.0"),
        (lambda: Augmentations([]), "both views of a cell are the same"),
    ],
)
def test_strengths_that_change_nothing_or_all_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
