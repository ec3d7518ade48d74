"""ScDeepCluster: its target, its assignment and its likelihoods."""

import numpy as np
import pytest
import torch

from sc_ssl.models import ScDeepCluster

QUICK = {"batch_size": 40, "enable_progress_bar": False, "accelerator": "cpu"}


def fit(adata, *, max_epochs=2, **options):
    torch.manual_seed(0)
    ScDeepCluster.setup_anndata(adata)
    model = ScDeepCluster(adata, **{"n_clusters": 3, "n_hidden": [32], "n_latent": 8} | options)
    model.train(max_epochs, **QUICK)
    return model


@pytest.mark.parametrize("likelihood", ["zinb", "nb"])
@pytest.mark.parametrize("dispersion_per", ["gene", "entry"])
def test_every_option_trains(counts, likelihood, dispersion_per):
    model = fit(counts, likelihood=likelihood, dispersion_per=dispersion_per)
    assert np.isfinite(model.history[f"{likelihood}_train"].to_numpy()).all()


def test_unknown_likelihood_is_refused(counts):
    with pytest.raises(ValueError, match="'zinb', 'nb', found 'poisson'"):
        fit(counts, likelihood="poisson")


def test_assignment_is_student_t_and_frequencies_are_those_of_all_cells(counts):
    model = fit(counts)
    z, center = model.get_latent_representation(), model.module.center_kd.detach().numpy()
    q = 1 / (1 + ((z[:, None] - center) ** 2).sum(axis=2))
    q /= q.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict(soft=True), q, atol=1e-5)
    np.testing.assert_allclose(model.module.frequency_k, q.mean(axis=0), atol=1e-5)


def test_clustering_loss_is_kl_to_the_target(counts):
    model = fit(counts, kl_weight=3.0)
    minibatch = next(iter(model._loader(model._own_cells())))
    q = model.predict(soft=True).astype(np.float64)
    p = q**2 / q.sum(axis=0)
    p /= p.sum(axis=1, keepdims=True)
    loss = model.module.loss_terms(minibatch)["cluster_kl"]
    assert loss.item() == pytest.approx(3 * (p * np.log(p / q)).sum(axis=1).mean(), rel=1e-3)


def test_clustering_sharpens_the_assignment(counts):
    model = fit(counts, max_epochs=5)
    before = model.predict(soft=True).max(axis=1).mean()
    model.train(9, **QUICK)
    assert model.predict(soft=True).max(axis=1).mean() > before


def test_noise_is_applied_in_training_and_never_to_the_embedding(counts):
    model = fit(counts)
    minibatch = next(iter(model._loader(model._own_cells())))
    autoencoder = model.module.autoencoder
    assert autoencoder.loss_terms(minibatch)["zinb"] != autoencoder.loss_terms(minibatch)["zinb"]
    assert torch.equal(autoencoder.embed(minibatch), autoencoder.embed(minibatch))
    autoencoder.noise_sd = 0.0
    assert autoencoder.loss_terms(minibatch)["zinb"] == autoencoder.loss_terms(minibatch)["zinb"]
