"""MaskSC: its options, layouts, attention and the published settings."""

import numpy as np
import pytest
import torch
from small_masksc import build, fit, normalized, patches_of

from sc_ssl.models import MaskSC
from sc_ssl.models.masksc.patches import cross_context


@pytest.fixture(scope="module")
def trained(build_counts):
    """A model after two epochs; not to be changed."""
    return fit(build_counts())


@pytest.mark.parametrize(
    ("options", "n_latent"),
    [
        ({"target": "diffusion", "readout": "prediction", "n_neighbors": 7}, 50),
        ({"readout": "prediction", "n_components": 5}, 55),
        ({"target": "components", "readout": "prediction", "n_components": 5}, 5),
        ({"n_latent": 14}, 14),
        ({"n_latent": 200}, 200),  # more than the graph of 120 cells has
        ({"target": "diffusion", "n_latent": 9}, 9),
        ({"target": "components", "n_latent": 6}, 6),
        ({"target": "global", "readout": "prediction"}, 8),
        ({"target": "cross", "readout": "prediction"}, 8),
        ({"target": "patch", "readout": "prediction"}, 8),
        ({"target": "raw", "readout": "prediction"}, 16),
        ({"decoder": {"n_bottleneck": 4}}, 58),
        ({"readout": "mean"}, 16),
        ({"readout": "cls"}, 16),
        ({"patches": {"size": 16, "order": "given"}}, 58),
        ({"patches": {"size": 16, "order": "square"}}, 58),
        ({"patches": {"size": 16, "order": "coexpression"}}, 58),
        ({"patches": {"size": 16, "order": "random"}}, 58),
        ({"patches": {"size": 16, "embed": "conv"}}, 58),
        ({"mask_rate": 0.5, "weigh_genes": False}, 58),
        ({"mask_rate": 0.0, "target": "patch", "readout": "mean"}, 16),
        ({"patches": {"size": 7}}, 58),  # the last patch is not full
        ({"patches": {"size": None}}, 58),
        ({"decoder": {"width": 8, "n_layers": 1, "n_heads": 2}}, 58),
        ({"decoder": {"width": 8, "n_layers": 1, "n_heads": 2}, "target": "cross", "readout": "mean"}, 16),
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"readout": "mean"}, "n_hidden dimensions; give n_hidden"),
        ({"target": "raw"}, "as many dimensions as a patch has genes"),
        ({"target": "cross"}, "as many dimensions as the teacher's n_latent"),
    ],
)
def test_n_latent_is_refused_where_something_else_decides_it(counts, options, message):
    with pytest.raises(ValueError, match=message):
        build(counts, n_latent=16, **options)


@pytest.mark.parametrize("name", ["target", "readout"])
def test_unknown_choices_are_refused_with_the_list(counts, name):
    with pytest.raises(ValueError, match=rf"{name} is one of .*, found 'wrong'"):
        build(counts, **{name: "wrong"})


@pytest.mark.parametrize("name", ["order", "embed"])
def test_unknown_patches_are_refused_with_the_list(counts, name):
    with pytest.raises(ValueError, match=rf"patches\['{name}'\] is one of .*, found 'wrong'"):
        build(counts, patches={name: "wrong"})


@pytest.mark.parametrize("size", [0, -4, 2.5, "16"])
def test_a_size_of_a_patch_that_is_none_is_refused(counts, size):
    with pytest.raises(ValueError, match=r"patches\['size'\]"):
        build(counts, patches={"size": size})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"transformer": {"depth": 2}},
            "transformer has no setting 'depth'; it has 'n_layers', 'n_heads', 'mlp_ratio'",
        ),
        ({"decoder": {"latent": 2}}, "decoder has no setting 'latent'; it has 'n_bottleneck'"),
        (
            {"decoder": {"n_bottleneck": 2, "width": 8}},
            "no setting 'n_bottleneck'; it has 'width', 'n_layers', 'n_heads'",
        ),
        ({"patches": {"width": 8}}, "patches has no setting 'width'; it has 'size', 'order', 'embed'"),
        ({"target": "cross", "teacher": {"hidden": [8]}}, "teacher has no setting 'hidden'; it has 'n_hidden'"),
    ],
)
def test_unknown_settings_are_refused_with_the_known_ones(counts, options, message):
    with pytest.raises(ValueError, match=message):
        build(counts, **options)


@pytest.mark.parametrize("mask_rate", [-0.1, 1, 1.5])
def test_a_share_of_hidden_patches_that_is_none_is_refused(counts, mask_rate):
    with pytest.raises(ValueError, match=rf"mask_rate lies in \[0, 1\), found {mask_rate}"):
        build(counts, mask_rate=mask_rate)


def test_without_masking_every_patch_is_seen_and_scored(counts):
    module = build(counts, mask_rate=0.0).module
    visible_nv, hidden_nm = module.mask(3, 6, torch.device("cpu"))
    assert visible_nv.tolist() == hidden_nm.tolist() == [[0, 1, 2, 3, 4, 5]] * 3


@pytest.mark.parametrize(("target", "is_unit"), [("diffusion", True), ("global", True), ("components", False)])
def test_prediction_is_a_unit_vector_where_the_target_is(counts, target, is_unit):
    length = np.linalg.norm(fit(counts, target=target).get_latent_representation(), axis=1)
    assert np.allclose(length, 1, atol=1e-5) == is_unit


# layouts and attention


@pytest.mark.parametrize("order", ["interleaved", "given", "square", "coexpression", "random"])
@pytest.mark.parametrize("size", [16, 9])
def test_patches_cover_each_gene_once(counts, order, size):
    patch_genes = build(counts, patches={"size": size, "order": order}).get_patch_genes()
    named = [gene for gene in patch_genes.to_numpy().ravel() if gene]
    assert sorted(named) == sorted(counts.var_names)
    assert patch_genes.shape[1] == size


def test_patches_show_the_genes_they_name(trained):
    patch_ntp, genes, x_ng = (
        trained._map_cells(trained.module.patches, None, None),
        trained.get_patch_genes(),
        normalized(trained),
    )
    column = [trained.var_names.index(gene) for gene in genes.loc["patch_2"]]
    np.testing.assert_allclose(patch_ntp[:, 2], x_ng[:, column], atol=1e-5)


def test_too_few_genes_for_two_patches_are_refused(counts):
    with pytest.raises(ValueError, match="16 genes make 1 patch of 16; masking needs 2: lower patches={'size': …}"):
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
    assert (module.mask_rate, module.readout) == (0.75, "mean")
    assert torch.equal(module.frozen.context_tt, cross_context(len(module.patch_genes_tp)))
    assert module.normalize.weight_g.eq(1).all()


def test_expression_matrix_holds_each_patch_as_a_tile(counts):
    model = build(counts, patches={"size": 16})
    matrix, (height, width) = model.get_expression_matrix(indices=[3, 0]), model.patch_shape
    patches = model._map_cells(model.module.patches, None, [3, 0])
    assert (height, width) == (4, 4) and matrix.shape == (2, 8, 12)
    for t in range(patches.shape[1]):
        row, column = divmod(t, matrix.shape[2] // width)
        tile = matrix[:, row * height : (row + 1) * height, column * width : (column + 1) * width]
        np.testing.assert_array_equal(tile.reshape(2, -1), patches[:, t])
