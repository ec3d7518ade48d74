"""MaskSC: targets, teachers, layouts, attention and the published settings."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sc_ssl.data import nearest_cells, smooth
from sc_ssl.models import ContrastiveSC, MaskSC
from sc_ssl.train import SSLTrainingPlan

TEACHER = {"n_hidden": [32], "n_latent": 8}
SMALL = {
    "teacher": 1,
    "teacher_kwargs": TEACHER,
    "n_hidden": 16,
    "n_layers": 1,
    "n_heads": 2,
    "n_latent": 8,
    "patch_size": 16,
}
QUICK = {"batch_size": 40, "enable_progress_bar": False, "accelerator": "cpu"}


def build(adata, **options):
    torch.manual_seed(0)
    MaskSC.setup_anndata(adata)
    return MaskSC(adata, **SMALL | options)


def fit(adata, *, max_epochs=2, **options):
    model = build(adata, **options)
    model.train(max_epochs, **QUICK)
    return model


def fit_teacher(adata, *, max_epochs=2):
    ContrastiveSC.setup_anndata(adata)
    teacher = ContrastiveSC(adata, **TEACHER)
    if max_epochs:
        teacher.train(max_epochs, **QUICK)
    return teacher


@pytest.fixture(scope="module")
def trained(build_counts):
    """A model after two epochs; not to be changed."""
    return fit(build_counts())


@pytest.mark.parametrize(
    ("options", "n_latent"),
    [
        ({"target": "global", "readout": "prediction"}, 8),
        ({"target": "cross", "readout": "prediction"}, 8),
        ({"target": "patch", "readout": "prediction"}, 8),
        ({"target": "raw", "readout": "prediction"}, 16),
        ({"readout": "prediction", "teacher": 2}, 16),
        ({"readout": "mean"}, 16),
        ({"readout": "cls"}, 16),
        ({"gene_order": "given"}, 8),
        ({"gene_order": "square"}, 8),
        ({"gene_order": "coexpression"}, 8),
        ({"gene_order": "random"}, 8),
        ({"patch_embed": "conv"}, 8),
        ({"n_scored": None, "n_neighbors": 0, "mask_rate": 0.5}, 8),
        ({"patch_size": 7}, 8),  # the last patch is not full
        ({"patch_size": None}, 8),
        ({"decoder_kwargs": {"width": 8, "n_layers": 1, "n_heads": 2}}, 8),
        ({"decoder_kwargs": {"width": 8, "n_layers": 1, "n_heads": 2}, "target": "cross", "readout": "mean"}, 16),
    ],
    ids=str,
)
def test_every_option_trains_and_survives_saving(counts, tmp_path, options, n_latent):
    model = fit(counts, **options)
    z = model.get_latent_representation()
    assert z.shape == (120, n_latent)
    assert np.isfinite(z).all()
    assert np.isfinite(model.history["train_loss"].to_numpy()).all()
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(MaskSC.load(tmp_path / "model", counts).get_latent_representation(), z)


@pytest.mark.parametrize("name", ["target", "readout", "gene_order", "patch_embed"])
def test_unknown_choices_are_refused_with_the_list(counts, name):
    with pytest.raises(ValueError, match=rf"{name} is one of .*, found 'wrong'"):
        build(counts, **{name: "wrong"})


def test_prediction_is_a_unit_vector(trained):
    np.testing.assert_allclose(np.linalg.norm(trained.get_latent_representation(), axis=1), 1, atol=1e-5)


# targets

# 6 patches stand in a matrix of 3 columns: a patch's cross is its row and its column
CROSS = [{0, 1, 2, 3}, {0, 1, 2, 4}, {0, 1, 2, 5}, {3, 4, 5, 0}, {3, 4, 5, 1}, {3, 4, 5, 2}]


@pytest.mark.parametrize(("target", "seen"), [("patch", [{i} for i in range(6)]), ("cross", CROSS)])
def test_targets_of_patches_are_the_frozen_teachers_features_of_masked_cells(counts, target, seen):
    model = fit(counts, target=target, teacher=2)
    x_ng, patch_genes_tp = normalized(model), model.module.patch_genes_tp
    expected = []
    for patches in seen:
        shown = torch.zeros(x_ng.shape[1])
        shown[patch_genes_tp[sorted(patches)].flatten()] = len(seen) / len(patches)
        with torch.no_grad():
            h = [F.normalize(teacher.encoder(x_ng * shown), dim=1) for teacher in model.module.teachers.encoders]
        expected.append(torch.cat(h, dim=1))
    expected = torch.stack(expected, dim=1)
    expected = (expected - expected.mean(dim=0)) / expected.std(dim=0, correction=0)
    torch.testing.assert_close(model.module.teachers.of_patches(patches_of(model)), expected, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("target", ["patch", "cross"])
def test_targets_of_patches_are_standardised(counts, target):
    model = fit(counts, target=target)
    features = model.module.teachers.of_patches(patches_of(model))
    torch.testing.assert_close(features.mean(dim=0), torch.zeros(6, 8), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.std(dim=0, correction=0), torch.ones(6, 8), atol=1e-3, rtol=0)


def normalized(model):
    with torch.no_grad():
        return torch.cat([model.module.normalize(minibatch) for minibatch in model._loader(model._own_cells())])


def patches_of(model):
    return torch.as_tensor(model._map_cells(model.module.patches, None, None))


def test_global_targets_are_the_teachers_features_of_the_neighbourhood(counts):
    model = fit(counts, teacher=2, n_neighbors=5)
    with torch.no_grad():
        x_ng = normalized(model)
        h = [F.normalize(teacher.encoder(x_ng), dim=1) for teacher in model.module.teachers.encoders]
    features = torch.cat(h, dim=1).numpy() / 2**0.5
    expected = smooth(features, nearest_cells(features, 5), n_steps=2)
    expected = (expected - expected.mean(axis=0)) / expected.std(axis=0)
    found = model._training_cells(max_epochs=1).extra["target"]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_raw_targets_are_the_expression_of_the_hidden_patches(counts):
    model = fit(counts, target="raw")
    patch_ntp = patches_of(model)[:5]
    hidden_nm = torch.tensor([[0, 5], [1, 2], [3, 3], [4, 0], [5, 1]])
    expected = torch.stack([cell[hidden] for cell, hidden in zip(patch_ntp, hidden_nm, strict=True)])
    torch.testing.assert_close(model.module.targets({}, patch_ntp, hidden_nm), expected)


def test_smoothing_equals_the_dense_formula():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(30, 4)).astype(np.float32)
    neighbors = nearest_cells(values, 5)
    average = np.zeros((30, 30))
    for i, row in enumerate(neighbors):
        average[i, row] = 1 / 6
    np.testing.assert_allclose(smooth(values, neighbors, n_steps=2), average @ average @ values, atol=1e-6)


def test_nearest_cells_are_those_of_the_distance_matrix():
    values = np.random.default_rng(0).normal(size=(30, 4))
    distance = ((values[:, None] - values[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(nearest_cells(values, 5), np.argsort(distance, axis=1)[:, :6])


# teachers


def test_given_teacher_is_used_and_left_unchanged(counts):
    teacher = fit_teacher(counts)
    before = copy.deepcopy(teacher.module.state_dict())
    model = fit(counts, teacher=teacher, teacher_kwargs=None)
    ours = model.module.teachers.encoders[0].state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.module.state_dict().items())
    assert all(torch.equal(ours[name], before[name]) for name in before)
    assert all(parameter.requires_grad for parameter in teacher.module.parameters())
    assert not [name for name in model.history if "teacher" in name]


def test_untrained_teacher_is_refused(counts):
    with pytest.raises(ValueError, match=r"teacher must be trained; call its train\(\) first"):
        build(counts, teacher=fit_teacher(counts, max_epochs=0))


def test_teacher_of_other_genes_is_refused(counts):
    teacher = fit_teacher(counts[:, :50].copy())
    with pytest.raises(ValueError, match="model's 96 genes in the same order, found 50 genes"):
        build(counts, teacher=teacher)


def test_teachers_differ_and_their_curves_are_kept(counts):
    model = fit(counts, teacher=2)
    first, second = (encoder.encoder[0].weight for encoder in model.module.teachers.encoders)
    assert not torch.allclose(first, second)
    for prefix in ("teacher_1_", "teacher_2_", ""):
        assert len(model.history[f"{prefix}train_loss"]) == 2


def test_training_on_leaves_trained_teachers_alone(counts):
    model = fit(counts)
    before = copy.deepcopy(model.module.teachers.state_dict())
    model.train(2, **QUICK)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.teachers.state_dict().items())
    assert len(model.history["teacher_1_train_loss"]) == 2
    assert len(model.history["train_loss"]) == 4


@pytest.mark.parametrize("through_disk", [False, True])
def test_training_goes_on_after_the_teachers_that_are_trained(counts, tmp_path, monkeypatch, through_disk):
    model = build(counts, teacher=2)
    interrupt_the_second_teacher(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        model.train(3, **QUICK)
    monkeypatch.undo()
    assert not model.is_trained_  # its own module has not seen a cell
    if through_disk:
        model.save(tmp_path / "model")
        model = MaskSC.load(tmp_path / "model", counts)
    first = copy.deepcopy(model.module.teachers.encoders[0].encoder.state_dict())
    model.train(3, **QUICK)
    after = model.module.teachers.encoders[0].encoder.state_dict()
    assert all(torch.equal(tensor, first[name]) for name, tensor in after.items())
    assert len(model.history["teacher_1_train_loss"]) == 3
    assert len(model.history["train_loss"]) == 3
    assert int(model.module.teachers.n_trained) == 2
    assert np.isfinite(model.get_latent_representation()).all()


def interrupt_the_second_teacher(monkeypatch):
    """Ctrl-C in its second epoch."""

    def interrupt(plan):
        if plan.prefix == "teacher_2_" and plan.current_epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(SSLTrainingPlan, "on_train_epoch_start", interrupt)


# layouts and attention


@pytest.mark.parametrize("gene_order", ["interleaved", "given", "square", "coexpression", "random"])
@pytest.mark.parametrize("patch_size", [16, 9])
def test_patches_cover_each_gene_once(counts, gene_order, patch_size):
    patch_genes = build(counts, gene_order=gene_order, patch_size=patch_size).get_patch_genes()
    named = [gene for gene in patch_genes.to_numpy().ravel() if gene]
    assert sorted(named) == sorted(counts.var_names)
    assert patch_genes.shape[1] == patch_size


def test_patches_show_the_genes_they_name(trained):
    patch_ntp, genes, x_ng = (
        trained._map_cells(trained.module.patches, None, None),
        trained.get_patch_genes(),
        normalized(trained),
    )
    column = [trained.var_names.index(gene) for gene in genes.loc["patch_2"]]
    np.testing.assert_allclose(patch_ntp[:, 2], x_ng[:, column], atol=1e-5)


def test_too_few_genes_for_two_patches_are_refused(counts):
    with pytest.raises(ValueError, match="16 genes make 1 patch of 16; masking needs 2: lower patch_size"):
        build(counts[:, :16].copy())


@pytest.mark.parametrize("of", ["received", "cls"])
@pytest.mark.parametrize("indices", [None, [5, 1, 5], np.arange(120) % 2 == 0], ids=["all", "positions", "boolean"])
def test_attention_is_a_share_for_each_patch_of_the_cells_asked_for(trained, of, indices):
    attention = trained.get_attention(indices=indices, of=of)
    names = trained.adata.obs_names if indices is None else trained.adata.obs_names[np.asarray(indices)]
    assert list(attention.index) == list(names)
    assert list(attention.columns) == list(trained.get_patch_genes().index)
    assert (attention.to_numpy() >= 0).all()
    assert (attention.sum(axis=1) <= 1 + 1e-6).all()
    assert (attention.sum(axis=1) > 0).all()


def test_attention_of_given_cells_is_that_of_the_own_ones(trained):
    query = trained.adata[30:40, ::-1].copy()
    expected = trained.get_attention(indices=np.arange(30, 40))
    np.testing.assert_allclose(trained.get_attention(query), expected, atol=1e-5)


# the loss


def test_only_visible_patches_reach_the_prediction(trained):
    """What is hidden must not leak: other values there, the same mask, the same prediction."""
    module, patch_ntp = trained.module, patches_of(trained)[:4]
    visible_nv, hidden_nm = torch.tensor([[0, 2]] * 4), torch.tensor([[1, 3, 4, 5]] * 4)
    changed = patch_ntp.clone()
    changed[:, [1, 3, 4, 5]] = torch.randn(4, 4, 16)
    with torch.no_grad():
        first, second = (
            module.decoder(module.encoder(module.tokens(p, visible_nv)), visible_nv, hidden_nm)
            for p in (patch_ntp, changed)
        )
    torch.testing.assert_close(first, second)


@pytest.fixture(scope="module")
def published(build_counts):
    """A hundred million weights: built once, never trained here."""
    counts = build_counts(20)
    MaskSC.setup_anndata(counts)
    return MaskSC.paper(counts)


def test_paper_has_the_published_encoder_and_decoder(published):
    encoder, decoder = published.module.encoder, published.module.decoder
    assert (len(encoder.blocks), encoder.norm.normalized_shape) == (12, (768,))
    assert (len(decoder.transformer.blocks), decoder.transformer.norm.normalized_shape) == (8, (512,))


def test_paper_has_the_published_schedule(published):
    training = published.training
    assert (training.max_epochs, training.batch_size) == (1600, 256)
    assert (training.plan["lr"], training.plan["weight_decay"], training.plan["betas"]) == (1e-4, 0.05, (0.9, 0.95))
    assert training.epochs(4271, 256) == 1600


def test_paper_has_the_published_patches_mask_and_target(published):
    module = published.module
    assert published.get_patch_genes().shape[1] == 16
    assert (module.mask_rate, module.target, module.readout) == (0.75, "cross", "mean")
    assert len(module.teachers.encoders) == 1


def test_expression_matrix_holds_each_patch_as_a_tile(counts):
    model = build(counts, patch_size=16)
    matrix, (height, width) = model.get_expression_matrix(indices=[3, 0]), model.patch_shape
    patches = model._map_cells(model.module.patches, None, [3, 0])
    assert (height, width) == (4, 4) and matrix.shape == (2, 8, 12)
    for t in range(patches.shape[1]):
        row, column = divmod(t, matrix.shape[2] // width)
        tile = matrix[:, row * height : (row + 1) * height, column * width : (column + 1) * width]
        np.testing.assert_array_equal(tile.reshape(2, -1), patches[:, t])


def test_a_teacher_of_other_cells_survives_saving(build_counts, tmp_path):
    model = build(build_counts(), teacher=fit_teacher(build_counts(seed=5, depth=9.0)), teacher_kwargs=None)
    model.train(2, **QUICK)
    model.save(tmp_path / "model")
    loaded = MaskSC.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.get_latent_representation(build_counts()), model.get_latent_representation())


def test_no_teacher_is_refused(counts):
    with pytest.raises(ValueError, match="at least one teacher is needed, found teacher=0"):
        build(counts, teacher=0)


def test_a_query_model_trains_as_its_source(counts):
    model = fit(counts, max_epochs=1)
    model.training = dataclasses.replace(model.training, max_epochs=7)
    assert MaskSC.load_query(model, counts).training.max_epochs == 7
