"""Methods of two views: BYOL's target that moves, views, and the watch over collapse."""

import copy

import numpy as np
import pytest
import torch

from sc_ssl import models
from sc_ssl.losses import nt_xent, vicreg
from sc_ssl.models import BYOL, BarlowTwins, SimCLR, VICReg
from sc_ssl.models.byol import Target
from sc_ssl.models.two_views import CollapseWatch, effective_rank, embedding_spread

QUICK = {"batch_size": 40, "enable_progress_bar": False, "accelerator": "cpu"}
PROGRAMS = {f"program_{p}": [f"gene_{i}" for i in range(p * 12, p * 12 + 12)] for p in range(6)}
AUGMENTATIONS = {
    "gene_dropout": 0.5,
    "binomial_thinning": 0.5,
    "nb_noise": 10.0,
    "gaussian_noise": 0.3,
    "program_dropout": 0.3,
}
SMALL = {"n_hidden": [32], "n_latent": 8, "projector": [16, 8]}


def build(model_class, adata, *, setup=None, **options):
    torch.manual_seed(0)
    model_class.setup_anndata(adata, **(setup or {}))
    return model_class(adata, **SMALL | options)


def fit(model_class, adata, *, max_epochs=2, **options):
    model = build(model_class, adata, **options)
    model.train(max_epochs, **QUICK)
    return model


@pytest.mark.parametrize("model_class", [BYOL, BarlowTwins])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_augmentation_trains(counts, model_class, name):
    programs = PROGRAMS if name == "program_dropout" else None
    model = fit(model_class, counts, augmentations={name: AUGMENTATIONS[name]}, programs=programs)
    assert np.isfinite(model.get_latent_representation()).all()


@pytest.mark.parametrize(
    ("model_class", "options"),
    [(BYOL, {"target": "online"}), (BYOL, {}), (BarlowTwins, {}), (VICReg, {}), (SimCLR, {})],
)
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_every_option_trains_and_is_saved(counts, tmp_path, model_class, options, norm):
    model = fit(model_class, counts, norm=norm, augmentations=AUGMENTATIONS, programs=PROGRAMS, **options)
    model.save(tmp_path / "model")
    found = models.load(tmp_path / "model").get_latent_representation(counts)
    np.testing.assert_array_equal(found, model.get_latent_representation())


def test_the_target_moves_as_the_formula_says_and_is_neither_the_start_nor_the_network(counts):
    model = build(BYOL, counts, momentum=0.8)
    module = model.module
    expected, after_step = copy.deepcopy(module.online.state_dict()), module.after_step
    start = copy.deepcopy(expected)

    def follow():
        after_step()
        for name, value in module.online.state_dict().items():
            floating = value.is_floating_point()
            expected[name] = 0.8 * expected[name] + 0.2 * value if floating else value.clone()

    module.after_step = follow
    module.after_fit = lambda minibatches: None  # which counts the batch norm of the network anew
    model.train(3, **QUICK)
    target = module.target.module.state_dict()
    for name, value in target.items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-5)
    assert any("running_mean" in name for name in target)
    for other in (start, module.online.state_dict()):
        assert not any(torch.equal(target[name], other[name]) for name in target if name.endswith("0.weight"))


def network():
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))


def moved(online):
    """The same network after a step of batch norm and one of its weights."""
    online = copy.deepcopy(online)
    online(torch.randn(16, 4) + 3)
    with torch.no_grad():
        for parameter in online.parameters():
            parameter.add_(torch.randn_like(parameter))
    return online


def test_target_is_the_average_from_the_first_update_on_and_copies_counters():
    start = network()
    target, steps = Target(start, 0.9), [moved(start), moved(start)]
    expected = {name: value.clone() for name, value in start.state_dict().items()}
    for step in steps:
        target.update_parameters(step)
        for name, value in step.state_dict().items():
            expected[name] = 0.9 * expected[name] + 0.1 * value if value.is_floating_point() else value
        for name, found in target.module.state_dict().items():
            torch.testing.assert_close(found, expected[name], atol=1e-6, rtol=1e-6)
    assert target.module[1].num_batches_tracked == 1


def test_target_stays_in_eval_mode_gets_no_gradient_and_is_a_copy():
    online = network()
    target = Target(online, 0.9)
    torch.nn.Sequential(target).train()
    assert not any(part.training for part in target.modules())
    assert not target(torch.randn(5, 4, requires_grad=True)).requires_grad
    assert not any(parameter.requires_grad for parameter in target.parameters())
    with torch.no_grad():
        online[0].weight.zero_()
    assert target.module[0].weight.any()


@pytest.mark.parametrize(
    ("model_class", "name", "loss"),
    [
        (VICReg, "vicreg", lambda a, b: vicreg(a, b, invariance_weight=1, variance_weight=2, covariance_weight=3)),
        (SimCLR, "nt_xent", lambda a, b: nt_xent(a, b, 0.3)),
    ],
)
def test_contrast_is_the_loss_of_the_projected_views(counts, model_class, name, loss):
    weights = {"invariance_weight": 1, "variance_weight": 2, "covariance_weight": 3}
    module = build(model_class, counts, **(weights if model_class is VICReg else {"temperature": 0.3})).module
    cells = {"normalized": torch.randn(20, 96)}
    torch.manual_seed(1)
    found = module.loss_terms(cells)
    torch.manual_seed(1)
    views = [module.projector(module.encoder(module.view(cells))) for _ in range(2)]
    assert list(found) == [name]
    torch.testing.assert_close(found[name], loss(*views))


def test_loss_of_byol_is_the_distance_to_the_target_in_both_orders(counts):
    module = fit(BYOL, counts).module
    cells = {"normalized": torch.randn(20, 96)}
    torch.manual_seed(1)
    loss = module.loss_terms(cells)["byol"]
    torch.manual_seed(1)
    view_1, view_2 = module.view(cells), module.view(cells)
    total = 0.0
    for view, other in ((view_1, view_2), (view_2, view_1)):
        p, t = module.predictor(module.online(view)), module.target(other)
        total = total + (p / p.norm(dim=1, keepdim=True) - t / t.norm(dim=1, keepdim=True)).square().sum(1).mean()
    torch.testing.assert_close(loss, total)


def test_the_embedding_is_on_the_path_of_the_gradient(counts):
    module = build(BYOL, counts).module
    module.train()
    module.loss_terms({"normalized": torch.randn(20, 96)})["byol"].backward()
    assert all(parameter.grad.any() for parameter in module.encoder[-1].parameters() if parameter.ndim > 1)


def test_simsiam_has_no_target_network(counts):
    module = build(BYOL, counts, target="online").module
    assert module.target is None
    assert not [name for name, _ in module.named_parameters() if "target" in name]


@pytest.mark.parametrize("model_class", [BYOL, BarlowTwins])
def test_history_follows_spread_and_rank(counts, model_class):
    model = fit(model_class, counts, max_epochs=3)
    for name in ("embedding_spread", "effective_rank"):
        assert len(model.history[name]) == 3
    assert 1 <= model.history["effective_rank"]["effective_rank"].iloc[-1] <= 8


def test_spread_and_rank_are_those_of_known_points():
    random = np.random.default_rng(0).normal(size=(5000, 16))
    assert embedding_spread(random) == pytest.approx(16**-0.5, rel=0.01)
    assert effective_rank(random) == pytest.approx(16, rel=0.01)
    point = np.ones((50, 16)) + 1e-6 * random[:50]
    assert embedding_spread(point) < 1e-6
    line = np.outer(random[:, 0], np.ones(16))
    assert effective_rank(line) == pytest.approx(1, abs=1e-6)


def test_a_collapsed_embedding_is_warned_about(counts, warnings_logged):
    model = build(BYOL, counts)
    constant = model.module.encoder[-1]
    with torch.no_grad():
        constant.weight.zero_()
        constant.bias.fill_(1.0)
    model.train(1, plan_kwargs={"lr": 0.0}, **QUICK)
    assert any("The embedding has collapsed" in line for line in warnings_logged())


def test_an_embedding_on_a_line_is_warned_about(counts, warnings_logged):
    model = build(BYOL, counts)
    last = model.module.encoder[-1]
    with torch.no_grad():
        last.weight.copy_(torch.ones(len(last.weight), 1) @ last.weight[:1])
    model.train(1, plan_kwargs={"lr": 0.0}, **QUICK)
    assert any("its effective rank is 1." in line for line in warnings_logged())


def test_a_good_embedding_is_not_warned_about_and_watching_changes_nothing(counts, warnings_logged, monkeypatch):
    watched = fit(BarlowTwins, counts, max_epochs=3).get_latent_representation()
    assert not any("collapsed" in line for line in warnings_logged())
    for hook in ("on_train_epoch_end", "on_train_end"):
        monkeypatch.setattr(CollapseWatch, hook, lambda *_: None)
    np.testing.assert_array_equal(fit(BarlowTwins, counts, max_epochs=3).get_latent_representation(), watched)


@pytest.mark.parametrize(
    ("model_class", "options", "message"),
    [
        (BYOL, {"target": "frozen"}, "'moving_average', 'online', found 'frozen'"),
        (BYOL, {"momentum": 1.0}, r"momentum lies in \[0, 1\), found 1.0"),
        (BYOL, {"augmentations": {}}, "both views of a cell are the same"),
        (BYOL, {"augmentations": {"swap": 0.5}}, "augmentations are 'gene_dropout', .* found 'swap'"),
        (BYOL, {"augmentations": {"program_dropout": 0.5}}, "program_dropout needs programs"),
        (
            BYOL,
            {"augmentations": {"gene_dropout": 0.5}, "programs": {"A": ["gene_1"]}},
            "programs are for program_dropout",
        ),
        (BYOL, {"projector": []}, "projector holds the widths"),
        (BYOL, {"projector": 64}, "projector holds the widths .* found 64"),
        (BYOL, {"n_latent": 0}, "whole number from 1 on, found 0"),
        (BarlowTwins, {"redundancy_weight": -1}, "redundancy_weight is at least 0, found -1"),
        (VICReg, {"covariance_weight": -1}, "covariance_weight is at least 0, found -1"),
        (SimCLR, {"temperature": 0}, "temperature is above 0, found 0"),
    ],
)
def test_bad_arguments_are_refused(counts, model_class, options, message):
    with pytest.raises(ValueError, match=message):
        build(model_class, counts, **options)


@pytest.mark.parametrize(
    ("augmentations", "message"),
    [
        ("gene_dropout", "names and strengths, .* found 'gene_dropout'"),
        ({"gene_dropout": None}, "strength of augmentation 'gene_dropout' is a number, found None"),
    ],
)
def test_augmentations_are_names_and_numbers(counts, augmentations, message):
    with pytest.raises(TypeError, match=message):
        build(BYOL, counts, augmentations=augmentations)


def test_counts_cannot_be_thinned_where_there_are_none(counts):
    counts.X = np.log1p(counts.X / 3)
    with pytest.raises(ValueError, match="act on raw counts, found input='log1p'"):
        build(BYOL, counts, setup={"input": "log1p"}, augmentations={"binomial_thinning": 0.5})
    augmentations = {"gaussian_noise": 0.3, "gene_dropout": 0.5}
    model = fit(BYOL, counts, setup={"input": "log1p"}, augmentations=augmentations)
    assert np.isfinite(model.get_latent_representation()).all()
