"""ScziDesk: its assignment, its terms and their weights."""

import numpy as np
import pytest
import torch

from sc_ssl.losses import pairwise_similarity_kl, soft_kmeans
from sc_ssl.models import ScziDesk

QUICK = {"batch_size": 40, "enable_progress_bar": False, "accelerator": "cpu"}


def fit(adata, *, max_epochs=2, **options):
    torch.manual_seed(0)
    ScziDesk.setup_anndata(adata)
    model = ScziDesk(adata, **{"n_clusters": 3, "n_hidden": [32], "n_latent": 8} | options)
    model.train(max_epochs, **QUICK)
    return model


def test_assignment_is_a_softmax_of_distances_and_the_cluster_the_nearest_centre(counts):
    model = fit(counts)
    z, center = model.get_latent_representation(), model.module.center_kd.detach().numpy()
    distance = ((z[:, None] - center) ** 2).sum(axis=2)
    weight = np.exp(-(distance - distance.min(axis=1, keepdims=True)))
    np.testing.assert_allclose(model.predict(soft=True), weight / weight.sum(axis=1, keepdims=True), atol=1e-4)
    np.testing.assert_array_equal(model.predict(), distance.argmin(axis=1))


def test_terms_are_weighted_once(counts):
    model = fit(counts, kmeans_weight=0.5, similarity_weight=2.0, zero_ridge_weight=3.0)
    minibatch = next(iter(model._loader(model._own_cells())))
    with torch.no_grad():
        terms = model.module.loss_terms(minibatch)
        z_nd = model.module.embed(minibatch)
    assert terms["soft_kmeans"].item() == pytest.approx(0.5 * soft_kmeans(z_nd, model.module.center_kd).item())
    assert terms["similarity_kl"].item() == pytest.approx(2 * pairwise_similarity_kl(z_nd).item())


def test_ridge_is_on_the_squared_probability_of_zero_inflation(counts):
    model = fit(counts, zero_ridge_weight=3.0, noise_sd=0.0)
    minibatch = next(iter(model._loader(model._own_cells())))
    with torch.no_grad():
        decoded = model.module.autoencoder.decoder(model.module.embed(minibatch), torch.ones(120, 1))
        ridge = model.module.loss_terms(minibatch)["zero_ridge"]
    assert ridge.item() == pytest.approx(3 * (1 / (1 + np.exp(-decoded.zero_logits_ng.numpy())) ** 2).mean(), rel=1e-4)


def test_without_ridge_there_is_no_such_term(counts):
    assert "zero_ridge_train" not in fit(counts, zero_ridge_weight=0.0).history
