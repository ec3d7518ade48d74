"""ContrastiveSC: its views, its geometry and the published settings."""

import numpy as np
import pytest
import torch
from small_models import minibatches
from torch import nn

from sc_ssl.models import ContrastiveSC

QUICK = {"batch_size": 40, "enable_progress_bar": False, "accelerator": "cpu"}


def fit(adata, *, max_epochs=2, **options):
    torch.manual_seed(0)
    ContrastiveSC.setup_anndata(adata)
    model = ContrastiveSC(adata, **{"n_hidden": [32], "n_latent": 8} | options)
    model.train(max_epochs, **QUICK)
    return model


@pytest.mark.parametrize("dropout_per", ["minibatch", "cell"])
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_every_option_trains(counts, dropout_per, norm):
    model = fit(counts, dropout_per=dropout_per, norm=norm)
    assert model.get_latent_representation().shape == (120, 8)
    assert np.isfinite(model.history["nt_xent_train"].to_numpy()).all()


def test_embedding_lies_on_the_unit_sphere(counts):
    z = fit(counts).get_latent_representation()
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-5)


def test_unknown_choices_are_refused(counts):
    ContrastiveSC.setup_anndata(counts)
    with pytest.raises(ValueError, match="'minibatch', 'cell', found 'gene'"):
        ContrastiveSC(counts, dropout_per="gene")
    with pytest.raises(ValueError, match="norm is one of 'batch', 'layer', 'none', found 'group'"):
        ContrastiveSC(counts, norm="group")


@pytest.mark.parametrize("dropout_per", ["minibatch", "cell"])
def test_a_view_of_all_genes_is_the_cell_itself(counts, dropout_per):
    module = fit(counts, dropout_per=dropout_per, gene_dropout_rate=0.0).module
    x_ng = torch.randn(5, 96)
    with torch.no_grad():
        torch.testing.assert_close(module.encode_view({"normalized": x_ng}).z_nd, module.encoder(x_ng))


def test_two_views_differ(counts):
    module = fit(counts).module
    x_ng = torch.randn(5, 96)
    with torch.no_grad():
        view_1, view_2 = (module.encode_view({"normalized": x_ng}).z_nd for _ in range(2))
        assert not torch.allclose(view_1, view_2)


def test_batch_statistics_are_those_of_whole_training_cells(counts):
    model = fit(counts, max_epochs=3)
    with torch.no_grad():
        x_ng = torch.cat([model.module.normalize(minibatch) for minibatch in minibatches(model)])
        h_nh = model.module.encoder[0](x_ng)
    norm = next(part for part in model.module.modules() if isinstance(part, nn.BatchNorm1d))
    torch.testing.assert_close(norm.running_mean, h_nh.mean(dim=0), atol=1e-4, rtol=1e-3)


def test_paper_has_the_published_settings(counts):
    ContrastiveSC.setup_anndata(counts)
    model = ContrastiveSC.paper(counts)
    widths = [layer.out_features for layer in model.module.encoder if isinstance(layer, nn.Linear)]
    assert widths == [200, 40, 60]
    assert (model.module.dropout_rate, model.module.dropout_per, model.module.temperature) == (0.9, "cell", 0.07)
    assert (model.training.max_epochs, model.training.batch_size) == (30, 200)
    assert model.training.plan == {"lr": 0.4, "schedule": "constant"}
