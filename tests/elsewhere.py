"""What child processes run."""

import logging
import signal

from conftest import make_counts
from small_models import SMALL

from sc_ssl import models, tl


class Report(logging.Handler):
    """Sets an event once a training is logged."""

    def __init__(self, event):
        super().__init__()
        self.event = event

    def emit(self, record):
        if record.getMessage().startswith("Training"):
            self.event.set()


def embed_counts(folder, method="scdeepcluster"):
    """The embedding by a model that is trained with checkpoints after every epoch."""
    train_kwargs = {"enable_progress_bar": False, "batch_size": 20, "checkpoint_seconds": 0}
    adata = make_counts()
    # all genes: numba, with which scanpy chooses some, is slow to start
    options = {"accelerator": "cpu", "max_epochs": 150, "n_top_genes": None, "train_kwargs": train_kwargs}
    tl.embed(adata, method, save_model=folder, **options, **SMALL["ScDeepCluster"])
    return adata.obsm[f"X_{method}"]


def embed_until_killed(training, folder):
    """Embed, and report that the training is under way; Ctrl-C works in a job in the background too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.getLogger("sc_ssl").addHandler(Report(training))
    embed_counts(folder)


def embed_with(folder, adata):
    """The embedding by a saved model."""
    return models.load(folder).get_latent_representation(adata)
