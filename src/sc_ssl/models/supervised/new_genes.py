"""The tensors of an encoder for more genes than it was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from sc_ssl.data import Cells, gene_statistics

if TYPE_CHECKING:
    from torch import Tensor

    from sc_ssl.models.base import SSLModel, SSLModule


@torch.no_grad()
def with_new_genes(source: SSLModel, encoder: SSLModule, cells: Cells) -> dict[str, Tensor]:
    """The source's tensors; those of genes that were appended are the encoder's own, their mean and sd the cells'.

    Parameters
    ----------
    source
        The trained model.
    encoder
        A module like the source's for the genes of the cells, those of the source first.
    cells
        Cells with these genes, and what the source reads: counts or log-normalised values.

    Raises
    ------
    ValueError
        A tensor of the source does not have genes as an axis.
    """
    old: dict[str, Tensor] = source.module.state_dict()
    state: dict[str, Tensor] = encoder.state_dict()
    n_old, n_genes = len(source.var_names), cells.n_genes
    if n_genes > n_old:
        log_input = source.setup_arguments["input"] == "log1p"
        one_batch = Cells(cells.matrix, cells.column_g, cells.library_size, np.zeros_like(cells.batch))
        target_sum = float(source.module.normalize.target_sum)
        _, mean_bg, sd_bg = gene_statistics(one_batch, n_batch=1, log_input=log_input, target_sum=target_sum)
        if old["normalize.mean_bg"].any():  # else the model does not centre, or does not scale
            state["normalize.mean_bg"][:] = torch.as_tensor(mean_bg[:1])
        if (old["normalize.sd_bg"] != 1).any():
            state["normalize.sd_bg"][:] = torch.as_tensor(sd_bg[:1])
    for name, tensor in old.items():
        if name.endswith("_extra_state"):
            state[name] = tensor
            continue
        # an axis is as long as it was, or has grown with the genes
        if not all(a == b or (a, b) == (n_old, n_genes) for a, b in zip(tensor.shape, state[name].shape, strict=True)):
            raise ValueError(
                f"no genes can be appended to a {type(source).__name__}, whose tensor {name!r} does not have genes as an "
                "axis; take extra_genes='drop'."
            )
        state[name][tuple(slice(0, n) for n in tensor.shape)] = tensor
    return state
