"""Embedding quickly, a Ctrl-C, and what of the cells must not change."""

import numpy as np
from lightning.pytorch import Callback

from sc_ssl.tl import embed

QUICK = {"max_epochs": 2, "accelerator": "cpu", "train_kwargs": {"enable_progress_bar": False, "batch_size": 40}}
SMALL = {
    "contrastive_sc": {"n_hidden": [32], "n_latent": 8},
    "masksc": {"n_hidden": 16, "transformer": {"n_layers": 1, "n_heads": 2}, "decoder": {"n_bottleneck": 8}},
}


class InterruptOnce(Callback):
    """Ctrl-C in the second epoch of the first fit."""

    def __init__(self):
        self.done = False

    def on_train_epoch_start(self, trainer, plan):
        if trainer.current_epoch == 1 and not self.done:
            self.done = True
            raise KeyboardInterrupt


def run(adata, method="contrastive_sc", **options):
    """Embed quickly; the embedding, where the keys are the usual ones."""
    embed(adata, method, **QUICK | SMALL.get(method, {}) | options)
    return adata.obsm.get(f"X_{method}")


def snapshot(adata):
    """All that must not change, as plain values."""
    return {
        "X": adata.X.toarray().copy(),
        "layers": {name: layer.toarray().copy() for name, layer in adata.layers.items()},
        "obs": adata.obs.copy(),
        "var": adata.var.copy(),
        "uns": set(adata.uns),
        "obsm": set(adata.obsm),
        "varm": set(adata.varm),
        "obsp": set(adata.obsp),
    }


def assert_same(found, before, *, added_obsm=(), added_uns=()):
    after = snapshot(found)
    np.testing.assert_array_equal(after["X"], before["X"])
    assert after["layers"].keys() == before["layers"].keys()
    for name, layer in after["layers"].items():
        np.testing.assert_array_equal(layer, before["layers"][name])
    assert after["obs"].equals(before["obs"])
    assert after["var"].equals(before["var"])
    assert after["obsm"] == before["obsm"] | set(added_obsm)
    assert after["uns"] == before["uns"] | set(added_uns)
    assert (after["varm"], after["obsp"]) == (before["varm"], before["obsp"])
