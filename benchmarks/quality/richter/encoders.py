"""Models of this package that have seen some cells, as encoders for what follows."""

from __future__ import annotations

from typing import Any

import numpy as np
from anndata import AnnData

from sc_ssl import models, tl
from sc_ssl._keys import METHODS
from sc_ssl.benchmark._rows import QUIET
from sc_ssl.models import CellClassifier, SSLModel
from sc_ssl.pp import select_genes
from sc_ssl.tl._cells import find, private_cells, registered
from sc_ssl.tl.embed import N_TOP_GENES
from sc_ssl.train import seeded

#: a classifier without pretraining: all of it from the first epoch on, at one rate
SCRATCH = {"lr_encoder": 1e-3}


def encoder(method: str, adata: AnnData, seed: int, *, trained: bool = True, **options: Any) -> SSLModel:
    """A model of these cells, their labels unseen; the same weights at the start whether it is trained or not."""
    model_class = getattr(models, METHODS[method])
    cells = private_cells(adata, find(adata, None), select_genes(adata, N_TOP_GENES))
    with seeded(seed), registered(model_class, cells):
        model = model_class(cells, **options)
        if trained:
            model.train(**QUIET)
        model.is_trained_ = True
    return model


def embed(model: SSLModel, adata: AnnData) -> np.ndarray:
    """Cells in the model's latent space, (n, d)."""
    return tl.embed(adata, model, key_added="benchmark", copy=True).obsm["benchmark"]


def predict_fine_tuned(
    model: SSLModel, train: AnnData, test: AnnData, labels_key: str, seed: int, **train_options: Any
) -> np.ndarray:
    """Types of the test cells, (n,), by the model with a head, trained on those of ``train`` that have a type."""
    with seeded(seed):
        classifier = CellClassifier.from_pretrained(model, train, labels_key=labels_key)
        classifier.train(**QUIET, **train_options)
        return classifier.predict(test, unknown=None)
