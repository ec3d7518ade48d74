"""What child processes run."""

import signal

from conftest import make_counts
from lightning.pytorch import Callback
from small_models import SMALL

from sc_ssl import models, tl


class Report(Callback):
    """Sets an event once something is trained."""

    def __init__(self, event):
        self.event = event

    def on_train_start(self, *_):
        self.event.set()


def embed_counts(folder, *, callbacks=(), method="scdeepcluster"):
    """The embedding by a model that is trained with checkpoints after every epoch."""
    train_kwargs = {"enable_progress_bar": False, "batch_size": 20, "checkpoint_seconds": 0, "callbacks": callbacks}
    adata = make_counts()
    options = {"accelerator": "cpu", "max_epochs": 150, "train_kwargs": train_kwargs}
    tl.embed(adata, method, save_model=folder, **options, **SMALL["ScDeepCluster"])
    return adata.obsm[f"X_{method}"]


def embed_until_killed(training, folder):
    """Embed, and report that the training is under way; Ctrl-C works in a job in the background too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    embed_counts(folder, callbacks=[Report(training)])


def embed_with(folder, adata):
    """The embedding by a saved model."""
    return models.load(folder).get_latent_representation(adata)
