"""What MaskSC predicts: its targets, and the teachers some of them come from."""

import copy
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_masksc import QUICK, build, fit, fit_teacher, normalized, patches_of
from small_models import training_cells

from sc_ssl.data import CellLoader
from sc_ssl.models import MaskSC
from sc_ssl.models.masksc.targets import diffusion_components
from sc_ssl.train import SSLTrainingPlan

# 6 patches stand in a matrix of 3 columns: a patch's cross is its row and its column
CROSS = [{0, 1, 2, 3}, {0, 1, 2, 4}, {0, 1, 2, 5}, {3, 4, 5, 0}, {3, 4, 5, 1}, {3, 4, 5, 2}]


@pytest.mark.parametrize(("target", "seen"), [("patch", [{i} for i in range(6)]), ("cross", CROSS)])
def test_targets_of_patches_are_the_frozen_teachers_features_of_masked_cells(counts, target, seen):
    model = fit(counts, target=target)
    x_ng, patch_genes_tp = normalized(model), model.module.patch_genes_tp
    expected = []
    for patches in seen:
        shown = torch.zeros(x_ng.shape[1])
        shown[patch_genes_tp[sorted(patches)].flatten()] = len(seen) / len(patches)
        with torch.no_grad():
            expected.append(F.normalize(model.module.frozen.contrastive.encoder(x_ng * shown), dim=1))
    expected = torch.stack(expected, dim=1)
    expected = (expected - expected.mean(dim=0)) / expected.std(dim=0, correction=0)
    torch.testing.assert_close(targets_of(model), expected, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize(("target", "n_places"), [("patch", 6), ("cross", 6), ("global", 1)])
def test_teachers_features_are_standardised(counts, target, n_places):
    features = targets_of(fit(counts, target=target))
    torch.testing.assert_close(features.mean(dim=0), torch.zeros(n_places, 8), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.std(dim=0, correction=0), torch.ones(n_places, 8), atol=1e-3, rtol=0)


def targets_of(model):
    return model.module.targets(normalized(model), patches_of(model))


def test_global_targets_are_the_teachers_features_of_the_cell(counts):
    model = fit(counts, target="global")
    with torch.no_grad():
        expected = F.normalize(model.module.frozen.contrastive.encoder(normalized(model)), dim=1)
    expected = (expected - expected.mean(dim=0)) / expected.std(dim=0, correction=0)
    torch.testing.assert_close(targets_of(model)[:, 0], expected, atol=1e-4, rtol=1e-3)


def test_place_is_a_unit_vector_and_the_components_lie_beside_it(counts):
    model = fit(counts)
    module = model.module
    cells = next(iter(CellLoader(model._own_cells(), np.arange(120), 120)))
    every = torch.arange(6).expand(120, -1)
    with torch.no_grad():
        encoded = module.encoder(module.tokens(module.patches(cells)))
        predicted = module.decoder(encoded, every, every).mean(dim=1)
        z = module.embed(cells)
    torch.testing.assert_close(z[:, :50], F.normalize(predicted[:, :50], dim=1))
    torch.testing.assert_close(z[:, 50:], predicted[:, 50:] / 50**0.5)


def test_leading_components_lie_beside_the_place_at_half_its_length(counts):
    model = fit(counts, n_neighbors=9, n_components=25)
    components = (normalized(model) @ model.module.frozen.loading_gc).numpy()[:, :20]
    found = training_cells(model).extra["target"]
    place = training_cells(fit(counts, n_neighbors=9, n_components=25, target="diffusion")).extra["target"]
    np.testing.assert_allclose(found[:, :50], place, atol=1e-5)
    lengths = np.sqrt((components**2).sum(axis=1).mean())
    np.testing.assert_allclose(found[:, 50:], components / lengths * 0.5 * 50**0.5, rtol=1e-4, atol=1e-5)


def test_diffusion_targets_are_places_in_the_graph_of_the_components(counts):
    model = fit(counts, n_neighbors=9, target="diffusion")
    components = (normalized(model) @ model.module.frozen.loading_gc).numpy()
    found = training_cells(model).extra["target"]
    np.testing.assert_allclose(found, diffusion_components(components, 9, 50) * 50**0.5, atol=1e-5)
    np.testing.assert_allclose(np.mean(found**2), 1, atol=1e-4)


def test_above_a_number_of_cells_evenly_spread_ones_are_trained_on(counts, monkeypatch):
    monkeypatch.setattr("sc_ssl.models.masksc.model.MAX_GRAPH_CELLS", 50)
    monkeypatch.setattr("sc_ssl.models.masksc.model.MAX_CELLS", 40)
    model = fit(counts)
    cells = training_cells(model)
    assert cells.n_cells == 50
    index = np.unique(np.linspace(0, 119, 50).astype(int))
    np.testing.assert_array_equal(cells.rows(np.arange(50)).toarray(), counts.X[index].toarray())
    assert model.get_latent_representation().shape == (120, 58)


def test_components_are_those_of_a_full_decomposition_partly_whitened(counts):
    model = fit(counts, target="components", n_components=4)
    x_ng = normalized(model).numpy()
    u, s, _ = np.linalg.svd(x_ng - x_ng.mean(axis=0), full_matrices=False)
    expected = u[:, :4] * s[:4] ** 0.75
    expected = expected / np.sqrt(np.mean(expected.var(axis=0, ddof=1)))
    found = targets_of(model)[:, 0].numpy()
    found = found - found.mean(axis=0)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=2e-2)


def test_components_that_the_data_do_not_have_are_zero(build_counts):
    model = fit(build_counts(n_cells=45), target="components", n_components=60)
    found = targets_of(model)
    assert found.shape == (45, 1, 60)
    assert found[..., 44:].abs().max() == 0
    assert found[..., :40].std(dim=0).min() > 0


def test_training_on_keeps_the_components(counts):
    model = fit(counts)
    before = model.module.frozen.loading_gc.clone()
    query = MaskSC.load_query(model, counts[:60].copy())
    query.train(1, **QUICK)
    assert torch.equal(query.module.frozen.loading_gc, before)


def test_raw_targets_are_the_expression_of_the_patches(counts):
    model = fit(counts, target="raw")
    torch.testing.assert_close(targets_of(model), patches_of(model))


# teachers


def test_given_teacher_is_used_and_left_unchanged(counts):
    teacher = fit_teacher(counts)
    before = copy.deepcopy(teacher.module.state_dict())
    model = fit(counts, target="global", teacher=teacher)
    ours = model.module.frozen.contrastive.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.module.state_dict().items())
    assert all(torch.equal(ours[name], before[name]) for name in before)
    assert all(parameter.requires_grad for parameter in teacher.module.parameters())
    assert not [name for name in model.history if "teacher" in name]


def test_untrained_teacher_is_refused(counts):
    with pytest.raises(ValueError, match=r"teacher must be trained; call its train\(\) first"):
        build(counts, target="global", teacher=fit_teacher(counts, max_epochs=0))


def test_teacher_of_other_genes_is_refused(counts):
    teacher = fit_teacher(counts[:, :50].copy())
    with pytest.raises(ValueError, match="model's 96 genes in the same order, found 50 genes"):
        build(counts, target="global", teacher=teacher)


@pytest.mark.parametrize("target", ["diffusion+components", "diffusion", "components", "raw"])
def test_teacher_that_would_not_be_asked_is_refused(counts, target):
    with pytest.raises(ValueError, match=re.escape(f"target={target!r} needs no teacher")):
        build(counts, target=target, teacher=fit_teacher(counts))


def test_curves_of_the_teacher_are_kept(counts):
    model = fit(counts, target="global")
    for prefix in ("teacher_", ""):
        assert len(model.history[f"{prefix}train_loss"]) == 2


def test_training_on_leaves_a_trained_teacher_alone(counts):
    model = fit(counts, target="cross")
    before = copy.deepcopy(model.module.frozen.state_dict())
    model.train(2, **QUICK)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.frozen.state_dict().items())
    assert len(model.history["teacher_train_loss"]) == 2
    assert len(model.history["train_loss"]) == 4


@pytest.mark.parametrize("through_disk", [False, True])
def test_training_goes_on_after_a_teacher_that_is_trained(counts, tmp_path, monkeypatch, through_disk):
    model = build(counts, target="global")
    interrupt_the_masked_model(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        model.train(3, **QUICK)
    monkeypatch.undo()
    assert not model.is_trained_  # its own module has not seen a cell
    if through_disk:
        model.save(tmp_path / "model")
        model = MaskSC.load(tmp_path / "model", counts)
    first = copy.deepcopy(model.module.frozen.contrastive.encoder.state_dict())
    model.train(3, **QUICK)
    after = model.module.frozen.contrastive.encoder.state_dict()
    assert all(torch.equal(tensor, first[name]) for name, tensor in after.items())
    assert len(model.history["teacher_train_loss"]) == 3
    assert len(model.history["train_loss"]) == 3
    assert np.isfinite(model.get_latent_representation()).all()


def interrupt_the_masked_model(monkeypatch):
    """Ctrl-C in its first epoch."""

    def interrupt(plan):
        if plan.prefix == "":
            raise KeyboardInterrupt

    monkeypatch.setattr(SSLTrainingPlan, "on_train_epoch_start", interrupt)


def test_a_teacher_of_other_cells_brings_its_normalisation_and_survives_saving(build_counts, tmp_path):
    teacher = fit_teacher(build_counts(seed=5, depth=9.0))
    model = build(build_counts(), target="global", teacher=teacher)
    assert torch.equal(model.module.normalize.mean_bg, teacher.module.normalize.mean_bg)
    model.train(2, **QUICK)
    model.save(tmp_path / "model")
    loaded = MaskSC.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.get_latent_representation(build_counts()), model.get_latent_representation())
