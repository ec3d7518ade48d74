"""Embedding with a trained model, and with one whose training was interrupted."""

import numpy as np
import pandas as pd
import pytest
from embedding import QUICK, SMALL, InterruptOnce, assert_same, run, snapshot
from lightning.pytorch import Callback

from sc_ssl import models
from sc_ssl.models.scpretrain.pretrained import SHIPPED
from sc_ssl.tl import embed

# a trained model


def test_folder_of_a_saved_model_reproduces_the_embedding(counts, embedded, folder):
    embed(counts, folder)
    np.testing.assert_allclose(counts.obsm["X_contrastive_sc"], embedded.obsm["X_contrastive_sc"], atol=1e-5)
    assert counts.uns["contrastive_sc"]["params"]["method"] == "contrastive_sc"


def test_folder_may_be_text(counts, embedded, folder):
    embed(counts, str(folder), key_added="mine")
    np.testing.assert_allclose(counts.obsm["mine"], embedded.obsm["X_contrastive_sc"], atol=1e-5)


def test_trained_model_reproduces_the_embedding(counts, embedded, folder):
    before = snapshot(counts)
    embed(counts, models.load(folder))
    np.testing.assert_allclose(counts.obsm["X_contrastive_sc"], embedded.obsm["X_contrastive_sc"], atol=1e-5)
    assert_same(counts, before, added_obsm=["X_contrastive_sc"], added_uns=["contrastive_sc"])
    params = counts.uns["contrastive_sc"]["params"]
    assert not {"max_epochs", "n_top_genes", "train_kwargs"} & params.keys()


@pytest.mark.parametrize("method", list(SMALL))
def test_trained_model_with_batches_and_fewer_genes_reproduces_the_embedding(build_counts, tmp_path, method):
    """The library size is that of all genes, at training and later alike."""
    counts = build_counts(n_batches=2)
    z = run(counts, method, batch_key="donor", n_top_genes=64, save_model=tmp_path / "model")
    query = counts[40:, ::-1].copy()
    embed(query, tmp_path / "model", batch_key="donor")
    np.testing.assert_allclose(query.obsm[f"X_{method}"], z[40:], atol=1e-5)


def test_model_trained_by_hand_embeds_other_names_of_layers_and_keys(build_counts):
    counts = build_counts(n_batches=2)
    counts.layers["umis"] = counts.X.copy()
    models.ContrastiveSC.setup_anndata(counts, layer="umis", batch_key="donor")
    model = models.ContrastiveSC(counts, **SMALL["contrastive_sc"])
    model.train(2, batch_size=40, enable_progress_bar=False, accelerator="cpu")
    query = build_counts(n_batches=2)
    query.obs["site"] = query.obs.pop("donor")
    embed(query, model, batch_key="site", key_added="z")
    np.testing.assert_allclose(query.obsm["z"], model.get_latent_representation(), atol=1e-5)


def test_one_cell_is_enough_for_a_trained_model(counts, embedded, folder):
    one = counts[:1].copy()
    embed(one, folder)
    np.testing.assert_allclose(one.obsm["X_contrastive_sc"], embedded.obsm["X_contrastive_sc"][:1], atol=1e-5)


def test_untrained_model_is_refused(counts):
    models.ContrastiveSC.setup_anndata(counts)
    with pytest.raises(RuntimeError, match="train the model first"):
        embed(counts, models.ContrastiveSC(counts, **SMALL["contrastive_sc"]))


def test_genes_of_another_kind_are_refused(counts, folder):
    counts.var_names = [f"ENSG{i}" for i in range(counts.n_vars)]
    with pytest.raises(ValueError, match="needs 50% of its 96 genes, found 0 .* names such as 'ENSG0'"):
        embed(counts, folder)


def test_a_trained_model_takes_no_constructor_arguments(counts, folder):
    with pytest.raises(TypeError, match="no constructor arguments, found n_latent"):
        embed(counts, folder, n_latent=3)


def test_folder_that_exists_is_refused_before_training(counts, tmp_path, monkeypatch):
    monkeypatch.setattr(models.ContrastiveSC, "train", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(FileExistsError, match="exists already; if a model is in it, method="):
        run(counts, save_model=tmp_path)


class Wider(models.ContrastiveSC):
    """A method of somebody's own, not known to the package."""


def test_a_subclass_is_recorded_as_the_method_that_it_extends(build_counts):
    counts = build_counts()
    Wider.setup_anndata(counts)
    model = Wider(counts, **SMALL["contrastive_sc"])
    model.train(2, batch_size=40, enable_progress_bar=False, accelerator="cpu")
    embed(counts, model)
    assert counts.uns["contrastive_sc"]["params"]["method"] == "contrastive_sc"
    np.testing.assert_array_equal(counts.obsm["X_contrastive_sc"], model.get_latent_representation())


# an interrupted training


@pytest.mark.parametrize("method", list(SMALL))
def test_an_interrupted_call_is_finished_by_the_same_call(build_counts, embedded, tmp_path, method):
    counts, folder = build_counts(), tmp_path / "model"
    train_kwargs = QUICK["train_kwargs"] | {"callbacks": [InterruptOnce()], "checkpoint_seconds": 0}
    options = {"save_model": folder, "train_kwargs": train_kwargs}
    before = snapshot(counts)
    with pytest.raises(KeyboardInterrupt):
        run(counts, method, **options)
    assert_same(counts, before)
    other = {"contrastive_sc": "n_latent", "masksc": "n_components"}[method]
    with pytest.raises(ValueError, match=rf"unfinished training that differs in {other}; repeat the call"):
        run(counts, method, **options, **{other: 7})
    with pytest.raises(ValueError, match=r"unfinished training that differs in the genes; repeat the call"):
        run(counts, method, **options, n_top_genes=60)
    with pytest.raises(ValueError, match=r"differs in max_epochs, random_state; repeat"):
        run(counts, method, **options, max_epochs=3, random_state=1)
    with pytest.raises(ValueError, match=r"differs in the cells, the genes; repeat"):
        run(counts[:100].copy(), method, **options)
    with pytest.raises(ValueError, match="differs in .*the method"):
        other = next(name for name in SMALL if name != method)
        run(counts, other, **options)
    np.testing.assert_array_equal(run(counts, method, **options), embedded.obsm[f"X_{method}"])
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]
    run(counts, folder, key_added="loaded")
    np.testing.assert_array_equal(counts.obsm["loaded"], embedded.obsm[f"X_{method}"])
    with pytest.raises(FileExistsError):
        run(counts, method, **options, random_state=1)


# the encoder that is shipped


@pytest.fixture
def named(build_counts):
    adata = build_counts(60, 2600)
    known = pd.read_csv(SHIPPED / "scpretrain" / "genes.csv", keep_default_na=False)
    adata.var_names = known["human_symbol"][:2600]
    return adata, known.set_index("human_symbol")["mouse_symbol"]


def test_shipped_encoder_embeds_without_training(named):
    adata, _ = named
    before = snapshot(adata)
    embed(adata, "scpretrain", pretrained=True)
    assert_same(adata, before, added_obsm=["X_scpretrain"], added_uns=["scpretrain"])
    expected = models.pretrained(adata.var_names).get_latent_representation(adata)
    np.testing.assert_allclose(adata.obsm["X_scpretrain"], expected, atol=1e-5)
    assert adata.uns["scpretrain"]["params"]["pretrained"] is True


def test_shipped_encoder_embeds_mouse_cells_without_a_table(named):
    human, mouse_symbol = named
    mouse = human[:, (mouse_symbol[human.var_names] != "").to_numpy()].copy()
    mouse.var_names = mouse_symbol[mouse.var_names].to_numpy()
    embed(mouse, "scpretrain", pretrained=True)
    embed(human, "scpretrain", pretrained=True)
    z, expected = mouse.obsm["X_scpretrain"], human.obsm["X_scpretrain"]
    assert np.corrcoef(z.ravel(), expected.ravel())[0, 1] > 0.8  # less the human genes without an ortholog


def test_shipped_encoder_refuses_what_it_cannot_embed(named, counts):
    adata, _ = named
    with pytest.raises(ValueError, match=r"needs 50% of its \d+ genes, found 900"):
        embed(adata[:, :900].copy(), "scpretrain", pretrained=True)
    with pytest.raises(ValueError, match="unknown species"):
        embed(counts, "scpretrain", pretrained=True)
    with pytest.raises(ValueError, match="shipped for 'scpretrain', found 'masksc'"):
        embed(adata, "masksc", pretrained=True)
    with pytest.raises(TypeError, match="takes no constructor arguments, found n_latent"):
        embed(adata, "scpretrain", pretrained=True, n_latent=3)
    with pytest.raises(TypeError, match="no argument pretrained"):
        embed(adata, "nmf", pretrained=True)


class InterruptAtOnce(Callback):
    """Ctrl-C before the first epoch."""

    def on_fit_start(self, trainer, plan):
        raise KeyboardInterrupt


def test_a_call_that_was_interrupted_before_it_trained_leaves_no_folder(counts, tmp_path, warnings_logged):
    train_kwargs = QUICK["train_kwargs"] | {"callbacks": [InterruptAtOnce()]}
    for folder in (tmp_path / "model", None):
        with pytest.raises(KeyboardInterrupt):
            run(counts, save_model=folder, train_kwargs=train_kwargs)
    assert not (tmp_path / "model").exists()
    assert "with a folder (save_model) the same call would go on" in warnings_logged()[-1]
    assert not any("goes on from them" in line for line in warnings_logged())
