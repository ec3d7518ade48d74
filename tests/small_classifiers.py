"""A classifier on a small encoder."""

import torch
from small_models import QUICK

from sc_ssl.models import CellClassifier


def classify(model, adata, epochs=15, seed=0, **options):
    """Trained on ``obs["cell_type"]``."""
    torch.manual_seed(seed)
    kwargs = {name: options.pop(name) for name in ("extra_genes", "min_coverage") if name in options}
    classifier = CellClassifier.from_pretrained(model, adata, labels_key="cell_type", **kwargs)
    classifier.train(epochs, **QUICK | options)
    return classifier
