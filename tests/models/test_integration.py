"""What ``batch_key`` is for: cells of one type come together whatever batch they are from."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from sc_ssl.models import BYOL, BarlowTwins, ContrastiveSC, MaskedAutoencoder, MaskSC

SMALL = {
    BYOL: {"n_hidden": [32], "n_latent": 8, "projector": [16, 8]},
    BarlowTwins: {"n_hidden": [32], "n_latent": 8, "projector": [16, 16]},
    ContrastiveSC: {"n_hidden": [32], "n_latent": 8},
    MaskedAutoencoder: {"n_hidden": [32], "n_latent": 8},
    MaskSC: {
        "n_hidden": 16,
        "transformer": {"n_layers": 1, "n_heads": 2},
        "decoder": {"n_bottleneck": 8},
        "patches": {"size": 16},
    },
}


@pytest.fixture
def batches(build_counts):
    """Two batches in which each gene is caught at another rate."""
    counts = build_counts(n_cells=240, n_batches=2, depth=10.0)
    second = (counts.obs["donor"] == "donor_1").to_numpy()
    rate_g = np.exp(np.random.default_rng(5).normal(0, 0.7, counts.n_vars)) / 2
    thinned = np.random.default_rng(6).poisson(counts.X.toarray() * rate_g)
    counts.X = sparse.csr_matrix(np.where(second[:, None], thinned, counts.X.toarray()).astype(np.float32))
    return counts


def embed(model_class, adata, batch_key):
    torch.manual_seed(0)
    model_class.setup_anndata(adata, batch_key=batch_key)
    model = model_class(adata, **SMALL[model_class])
    model.train(30, batch_size=40, enable_progress_bar=False, accelerator="cpu")
    return model.get_latent_representation()


def accuracy(z_nd, labels: pd.Series) -> float:
    return cross_val_score(KNeighborsClassifier(5), z_nd, labels, cv=4).mean()


@pytest.mark.parametrize("model_class", SMALL)
def test_batches_mix_when_they_are_named_and_types_stay_apart(batches, model_class):
    without, named = (embed(model_class, batches.copy(), key) for key in (None, "donor"))
    assert accuracy(named, batches.obs["donor"]) < accuracy(without, batches.obs["donor"]) - 0.05
    assert accuracy(named, batches.obs["cell_type"]) > 0.8


def mixing(z_nd, adata) -> float:
    """Share of a cell's 15 nearest cells of its type that are of another batch, over what the type allows; types of both."""
    found = []
    for name in ("type_1", "type_2"):
        rows = (adata.obs["cell_type"] == name).to_numpy()
        other = (adata.obs["donor"] == "donor_1").to_numpy()[rows].astype(float)
        neighbor_nk = NearestNeighbors(n_neighbors=15).fit(z_nd[rows]).kneighbors()[1]
        expected = 2 * other.mean() * (1 - other.mean())
        found.append(np.abs(other[neighbor_nk] - other[:, None]).mean() / expected)
    return float(np.mean(found))


@pytest.mark.parametrize("model_class", SMALL)
def test_naming_batches_of_unequal_composition_mixes_the_types_that_they_share(batches, model_class):
    """One batch lacks a type, so that the plain means of the batches differ although the others are alike."""
    lacking = (batches.obs["donor"] == "donor_1") & (batches.obs["cell_type"] == "type_0")
    uneven = batches[~lacking.to_numpy()].copy()
    without, named = (embed(model_class, uneven.copy(), key) for key in (None, "donor"))
    assert mixing(named, uneven) > mixing(without, uneven) + 0.05
    assert accuracy(named, uneven.obs["cell_type"]) > 0.8


def test_masksc_embeds_cells_of_a_new_batch_among_those_of_their_type(build_counts):
    """The third batch is not trained on, and its column may be missing: the encoder has learnt what to take off."""
    counts = build_counts(n_cells=360, n_batches=3, depth=10.0)
    known = (counts.obs["donor"] != "donor_2").to_numpy()
    torch.manual_seed(0)
    trained, new = counts[known].copy(), counts[~known].copy()
    MaskSC.setup_anndata(trained, batch_key="donor")
    model = MaskSC(trained, **SMALL[MaskSC])
    model.train(30, batch_size=40, enable_progress_bar=False, accelerator="cpu")
    voters = KNeighborsClassifier(5).fit(model.get_latent_representation(), trained.obs["cell_type"])
    z_nd = model.get_latent_representation(new)
    assert (voters.predict(z_nd) == new.obs["cell_type"].to_numpy()).mean() > 0.9
    del new.obs["donor"]
    np.testing.assert_array_equal(model.get_latent_representation(new), z_nd)
