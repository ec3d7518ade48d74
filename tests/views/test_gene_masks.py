import pytest
import torch

from sc_ssl.views import GenePrograms, OneProgram, ProgramToRegulator, RandomGenes


def blocks(n_programs=10, size=7, n_others=5):
    """Programmes without common genes, and genes that belong to none."""
    member_pg = torch.zeros(n_programs, n_programs * size + n_others, dtype=torch.bool)
    for p in range(n_programs):
        member_pg[p, p * size : (p + 1) * size] = True
    return member_pg


def overlapping(n_programs=40, n_genes=203):
    return torch.rand(n_programs, n_genes) < torch.rand(n_programs, 1) * 0.3 + 0.02


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_random_genes_hides_and_scores_the_stated_share(rate):
    visible_ng, scored_ng = RandomGenes(1001, rate)(400)
    assert visible_ng.shape == (400, 1001)
    assert torch.equal(visible_ng, ~scored_ng)
    assert scored_ng.float().mean() == pytest.approx(rate, abs=0.005)
    torch.testing.assert_close(scored_ng.float().mean(0), torch.full((1001,), rate), atol=0.12, rtol=0)
    assert (scored_ng.float().mean(1) - rate).abs().max() < 0.08


def test_neighbouring_genes_are_hidden_independently():
    scored_ng = RandomGenes(64, 0.5)(20_000).scored_ng.float()
    correlation = torch.corrcoef(scored_ng.T)
    assert (correlation - torch.eye(64)).abs().max() < 0.04


@pytest.mark.parametrize("masking", [RandomGenes(83), GenePrograms(blocks()), OneProgram(blocks())])
def test_masks_differ_between_the_cells_and_between_draws(masking):
    first, second = masking(50), masking(50)
    assert len(first.visible_ng.unique(dim=0)) > 5
    assert not torch.equal(first.visible_ng, second.visible_ng)


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5, 0.99])
def test_programmes_are_hidden_whole_until_the_rate_is_met(rate):
    member_pg = blocks()
    visible_ng, scored_ng = GenePrograms(member_pg, rate)(200)
    assert torch.equal(visible_ng, ~scored_ng)
    hidden_np = (scored_ng.float() @ member_pg.float().T) / 7
    assert set(hidden_np.unique().tolist()) <= {0.0, 1.0}
    expected = -(-int(rate * 70 + 1e-9) // 7)  # of the 70 genes in programmes
    assert (hidden_np.sum(dim=1) == max(expected, 1)).all()
    assert not scored_ng[:, 70:].any()


@pytest.mark.parametrize("rate", [0.25, 0.5, 0.95])
def test_overlapping_programmes_stop_with_the_one_that_meets_the_rate(rate):
    member_pg = overlapping()
    masking = GenePrograms(member_pg, rate)
    scored_ng = masking(300).scored_ng
    n_hidden = scored_ng.sum(dim=1)
    wanted = int(rate * member_pg.any(0).sum())
    assert (n_hidden >= wanted).all()
    inside_np = (member_pg[None] & ~scored_ng[:, None]).sum(dim=2) == 0
    assert torch.equal((inside_np[:, :, None] & member_pg).any(dim=1), scored_ng)  # a union of programmes
    expected = torch.tensor([one_after_the_other(member_pg, wanted) for _ in range(300)])
    spread = expected.float().std().item()
    assert n_hidden.float().mean() == pytest.approx(expected.float().mean().item(), abs=0.35 * spread + 0.1)
    assert n_hidden.max() - wanted < member_pg.sum(dim=1).max()


def one_after_the_other(member_pg, wanted):
    """Genes hidden by programmes in a random order, with the one that meets the rate."""
    hidden_g = torch.zeros(member_pg.shape[1], dtype=torch.bool)
    for p in torch.randperm(len(member_pg)):
        hidden_g |= member_pg[p]
        if hidden_g.sum() >= wanted:
            break
    return int(hidden_g.sum())


def test_every_programme_is_as_likely_as_any_other():
    member_pg = blocks()
    scored_ng = GenePrograms(member_pg, 0.3)(6000).scored_ng
    share_p = scored_ng[:, :70:7].float().mean(dim=0)
    torch.testing.assert_close(share_p, torch.full((10,), 0.3), atol=0.03, rtol=0)


@pytest.mark.parametrize("n_genes", [63, 64, 65, 130])
def test_any_number_of_genes_is_packed_and_unpacked(n_genes):
    member_pg = torch.eye(n_genes, dtype=torch.bool)
    scored_ng = GenePrograms(member_pg, 0.5)(20).scored_ng
    assert scored_ng.shape == (20, n_genes)
    assert (scored_ng.sum(dim=1) == n_genes // 2).all()


def test_one_programme_is_all_that_is_visible_and_scored():
    member_pg = blocks()
    visible_ng, scored_ng = OneProgram(member_pg, 0.0)(100)
    assert torch.equal(visible_ng, scored_ng)
    assert all((row == member_pg).all(dim=1).any() for row in scored_ng)
    visible_ng, scored_ng = OneProgram(member_pg, 0.4)(2000)
    assert not (visible_ng & ~scored_ng).any()
    assert visible_ng.sum() / scored_ng.sum() == pytest.approx(0.6, abs=0.02)


def test_the_targets_are_visible_and_only_the_factor_is_scored():
    member_pg = blocks()
    member_pg[3, 74] = True  # a factor that is its own target
    regulator_p = torch.tensor([70, 71, 72, 74, 0, 1, 2, 3, 4, 73])
    visible_ng, scored_ng = ProgramToRegulator(member_pg, regulator_p)(500)
    assert (scored_ng.sum(dim=1) == 1).all()
    assert not (visible_ng & scored_ng).any()
    for visible_g, factor in zip(visible_ng, scored_ng.int().argmax(dim=1), strict=True):
        p = int((regulator_p == factor).nonzero())
        assert torch.equal(visible_g.nonzero().flatten(), torch.arange(p * 7, p * 7 + 7))


def test_hidden_genes_take_their_mean_and_the_others_keep_the_sum():
    x_ng = torch.ones(2000, 101)
    random = RandomGenes(101, 0.8)
    shown_ng = random.show(x_ng, random(2000).visible_ng)
    torch.testing.assert_close(shown_ng.sum(dim=1), torch.full((2000,), 101.0), atol=1e-2, rtol=0)
    one = OneProgram(blocks(), 0.0)
    assert set(one.show(torch.ones(9, 75), one(9).visible_ng).unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("rate", [0, 1, -0.1])
def test_rates_that_mask_nothing_or_all_are_refused(rate):
    for build in (lambda: RandomGenes(10, rate), lambda: GenePrograms(blocks(), rate)):
        with pytest.raises(ValueError, match=r"in \(0, 1\), found"):
            build()


def test_programmes_that_mask_nothing_are_refused():
    empty = blocks()
    empty[2] = False
    full = blocks()
    full[1] = True
    for build in (GenePrograms, OneProgram):
        with pytest.raises(ValueError, match="empty programmes"):
            build(empty)
        with pytest.raises(ValueError, match="programme 1 holds every gene"):
            build(full)
    with pytest.raises(ValueError, match="at least 2 of them"):
        GenePrograms(blocks()[:1])
    with pytest.raises(ValueError, match="at least 2 genes, found 1"):
        RandomGenes(1)
    own_target = torch.zeros(1, 5, dtype=torch.bool)
    own_target[0, 2] = True
    with pytest.raises(ValueError, match="empty programmes"):
        ProgramToRegulator(own_target, torch.tensor([2]))
