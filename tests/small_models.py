"""Every embedding model at a size that trains in milliseconds."""

import numpy as np
import pandas as pd
import torch

from sc_ssl.data import CellLoader
from sc_ssl.models import METHODS

#: small models, so that a test takes milliseconds; a class that is not here is built with its own defaults
SMALL = {
    "BYOL": {"n_hidden": [32], "n_latent": 8, "projector": [16, 8]},
    "BarlowTwins": {"n_hidden": [32], "n_latent": 8, "projector": [16, 16]},
    "VICReg": {"n_hidden": [32], "n_latent": 8, "projector": [16, 16]},
    "SimCLR": {"n_hidden": [32], "n_latent": 8, "projector": [16, 8]},
    "CellLM": {"n_latent": 16, "transformer": {"n_layers": 1, "n_heads": 2}},
    "ContrastiveSC": {"n_hidden": [32], "n_latent": 8},
    "MaskSC": {
        "n_hidden": 16,
        "transformer": {"n_layers": 1, "n_heads": 2},
        "decoder": {"n_bottleneck": 8},
        "patches": {"size": 16},
    },
    "ScPretrain": {"n_latent": 8, "cells_per_cluster": [20, 40], "recluster_every": 100},
    "MaskedAutoencoder": {"n_hidden": [32], "n_latent": 8},
    "ScDeepCluster": {"n_clusters": 3, "n_hidden": [32], "n_latent": 8},
    "ScziDesk": {"n_clusters": 3, "n_hidden": [32], "n_latent": 8},
    "ModalityRegressor": {"n_hidden": [32], "n_latent": 8},
    "DrugResponse": {"drugs": pd.DataFrame(np.eye(3), index=list("abc")), "n_hidden": [32], "n_latent": 8},
}
#: what models that predict are trained on: where it lies in ``obsm``, and its columns
TARGETS = {"ModalityRegressor": ("protein", ["CD3", "CD4"]), "DrugResponse": ("ln_ic50", list("abc"))}
QUICK = {"batch_size": 40, "enable_progress_bar": False, "accelerator": "cpu"}


def add_targets(adata):
    """What models that predict are trained on."""
    for key, names in TARGETS.values():
        adata.obsm[key] = pd.DataFrame(adata.X[:, : len(names)].toarray(), adata.obs_names, names)


def build(model_class, adata, *, seed=0, **setup):
    if model_class.__name__ in TARGETS:
        add_targets(adata)
    torch.manual_seed(seed)
    model_class.setup_anndata(adata, **setup)
    return model_class(adata, **SMALL.get(model_class.__name__, {}))


def fit(model_class, adata, *, seed=0, max_epochs=2, setup=None, **options):
    model = build(model_class, adata, seed=seed, **(setup or {}))
    model.train(max_epochs, **QUICK | options)
    return model


def training_cells(model):
    """The cells of the last phase of a training, with what the method puts beside them."""
    *_, last = model.phases()
    return last.cells


def minibatches(model, batch_size=40):
    """Of a training."""
    cells = training_cells(model)
    return iter(CellLoader(cells, np.arange(cells.n_cells), batch_size))


def method_of(model_class):
    return next(method for method, found in METHODS.items() if found is model_class)


def assert_unchanged(found, before):
    """An AnnData as it was."""
    for name in ("obs", "var"):
        assert getattr(found, name).equals(getattr(before, name))
    assert dict(found.uns) == dict(before.uns)
    assert set(found.obsm) == set(before.obsm)
    assert set(found.layers) == set(before.layers)
    assert (found.X != before.X).nnz == 0
