"""What a child process runs that a test kills."""

import numpy as np
from conftest import make_counts
from small_models import SMALL

from sc_ssl import tl


def embed_counts(folder, out, method="scdeepcluster", max_epochs=150):
    """Embed with checkpoints after every epoch, and write the embedding."""
    train_kwargs = {"enable_progress_bar": False, "batch_size": 20, "checkpoint_seconds": 0}
    adata = make_counts()
    options = {"accelerator": "cpu", "max_epochs": max_epochs, "train_kwargs": train_kwargs}
    tl.embed(adata, method, save_model=folder, **options, **SMALL["ScDeepCluster"])
    np.save(out, adata.obsm[f"X_{method}"])
