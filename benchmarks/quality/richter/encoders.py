"""Models of this package as encoders for what follows, and the gene programmes of their masks."""

from __future__ import annotations

from typing import Any

import numpy as np
from anndata import AnnData

from benchmarks.quality.data import resource
from benchmarks.quality.embeddings import QUIET
from sc_ssl import tl
from sc_ssl.models import CellClassifier, SSLModel
from sc_ssl.pp import read_gmt
from sc_ssl.train import seeded

#: a classifier without pretraining: all of it from the first epoch on, at one rate
SCRATCH = {"lr_encoder": 1e-3}
#: gene programmes and regulons of MSigDB
PROGRAMS, REGULONS = "msigdb_c2.cp.reactome.v7.0.symbols.gmt", "msigdb_c3.tft.v7.0.symbols.gmt"
#: mask of the masked autoencoder → its programmes, and further arguments
MASKS: dict[str, tuple[str, dict[str, bool]]] = {
    "gene_programs": (PROGRAMS, {}),
    "one_program": (PROGRAMS, {}),
    "program_to_regulator": (REGULONS, {"leave_out_regulons": True}),
}


def mask_options(mask: str) -> dict[str, object]:
    """What the masked autoencoder takes for this mask."""
    filename, options = MASKS[mask]
    return {"mask": mask, "programs": read_gmt(resource(filename)), **options}


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
