"""What ``batch_key`` is for: cells of one type come together whatever batch they are from."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from sc_ssl.models import BYOL, BarlowTwins, ContrastiveSC
from sc_ssl.models.masked_autoencoder import MaskedAutoencoder
from sc_ssl.models.masksc.model import MaskSC

SMALL = {
    BYOL: {"n_hidden": [32], "n_latent": 8, "projector": [16, 8]},
    BarlowTwins: {"n_hidden": [32], "n_latent": 8, "projector": [16, 16]},
    ContrastiveSC: {"n_hidden": [32], "n_latent": 8},
    MaskedAutoencoder: {"n_hidden": [32], "n_latent": 8},
    MaskSC: {
        "n_hidden": 16,
        "transformer": {"n_layers": 1, "n_heads": 2},
        "decoder": {"n_latent": 8},
        "patch_size": 16,
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
