"""The encoder of one model inside another: its class by name, its width, its tensors, with genes appended or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from sc_ssl._logging import logger
from sc_ssl.data import Cells, gene_statistics

from ._base import SSLModel

if TYPE_CHECKING:
    from torch import Tensor

    from ._module import SSLModule
    from .classifier import CellClassifier


def class_named(name: str) -> type[SSLModel]:
    """The model class of this name."""
    todo, found = [SSLModel], {}
    while todo:
        found |= {c.__name__: c for c in todo}
        todo = [sub for c in todo for sub in c.__subclasses__()]
    if name not in found or name == "CellClassifier":
        raise ValueError(f"a pretrained model is needed, found a {name!r}.")
    return found[name]


def warn_untrained(model: SSLModel) -> None:
    """An untrained encoder is a random projection: of use to compare with, and otherwise a slip."""
    if not model.is_trained_:
        logger.warning(
            "The %s that serves as the encoder is not trained: what it says of cells is random.", type(model).__name__
        )


def empty_cells(module: SSLModule) -> dict[str, Tensor]:
    """Two cells without counts, to see what a module makes of them."""
    n_genes = len(module.normalize.weight_g)
    return {"X": torch.zeros(2, n_genes), "size_factor": torch.ones(2, 1), "batch": torch.zeros(2, 1, dtype=torch.long)}


@torch.no_grad()
def latent_width(module: SSLModule) -> int:
    """Dimension of the embedding, of a module that is left in eval mode."""
    return int(module.eval().embed(empty_cells(module)).shape[1])


def gene_slot(model: SSLModel) -> nn.Linear:
    """The map of a gene's output to one number, for models whose tokens are genes."""
    if not hasattr(model.module, "gene_slots"):
        raise ValueError(
            f"reads='gene_slots' is for encoders whose tokens are genes (CellLM), found a {type(model).__name__}; take "
            "reads='embedding'."
        )
    return nn.Linear(len(model.module.cls_token), 1)


@torch.no_grad()
def copy_encoder(source: SSLModel, classifier: CellClassifier) -> None:
    """The encoder's tensors; where genes were appended the new ones come last, and keep what they have."""
    encoder, n_old = classifier.module.encoder, len(source.var_names)
    n_new = len(classifier.var_names)
    old, state = source.module.state_dict(), encoder.state_dict()
    if n_new > n_old:
        cells = classifier._own_cells()
        log_input = classifier.setup_arguments["input"] == "log1p"
        one_batch = Cells(cells.matrix, cells.column_g, cells.size_factor, np.zeros_like(cells.batch))
        target_sum = float(source.module.normalize.target_sum)
        _, mean_bg, sd_bg = gene_statistics(one_batch, n_batch=1, log_input=log_input, target_sum=target_sum)
        if old["normalize.mean_bg"].any():  # else the model does not centre, or does not scale
            state["normalize.mean_bg"][:] = torch.as_tensor(mean_bg[:1])
        if (old["normalize.sd_bg"] != 1).any():
            state["normalize.sd_bg"][:] = torch.as_tensor(sd_bg[:1])
    for name, tensor in old.items():
        fits = name.endswith("_extra_state") or all(
            a == b or (a, b) == (n_old, n_new) for a, b in zip(tensor.shape, state[name].shape, strict=True)
        )
        if not fits:
            raise ValueError(
                f"no genes can be appended to a {type(source).__name__}, whose tensor {name!r} does not have genes as an "
                "axis; take extra_genes='drop'."
            )
        if name.endswith("_extra_state"):
            state[name] = tensor
        else:
            state[name][tuple(slice(0, n) for n in tensor.shape)] = tensor
    encoder.load_state_dict(state)
