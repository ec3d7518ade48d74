"""Two small data sets and a small ScPretrain."""

from sc_ssl.models import ScPretrain

QUICK = {"batch_size": 40, "enable_progress_bar": False, "accelerator": "cpu"}
SMALL = {"n_latent": 8, "cells_per_cluster": [20, 40]}


def build(counts, **options):
    ScPretrain.setup_anndata(counts, batch_key=options.pop("batch_key", None))
    return ScPretrain(counts, **SMALL | options)


def studies(build_counts):
    """Two data sets that share the last 64 genes of the first; human-like names."""
    first, second = build_counts(120), build_counts(60, seed=1)
    first.var_names = [f"GENE{i}" for i in range(96)]
    second.var_names = [f"GENE{i + 32}" for i in range(96)]
    return {"first": first, "second": second}
