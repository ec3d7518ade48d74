"""The encoder of a trained model inside another: copied, trained further or frozen; or a plain network from scratch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from sc_ssl._logging import logger
from sc_ssl.data import MIN_COVERAGE, Cells, gene_statistics
from sc_ssl.models.base import SSLModel, SSLModule, class_named

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from sc_ssl.nn import LogNormalize

    from .classifier import CellClassifier


def warn_untrained(model: SSLModel) -> None:
    """An untrained encoder is a random projection: of use to compare with, and otherwise a slip."""
    if not model.is_trained_:
        logger.warning(
            "The %s that serves as the encoder is not trained: what it says of cells is random.", type(model).__name__
        )


def empty_cells(module: SSLModule) -> dict[str, Tensor]:
    """Two cells without counts, to see what a module makes of them."""
    n_genes = len(module.normalize.weight_g)
    return {
        "X": torch.zeros(2, n_genes),
        "library_size": torch.ones(2, 1),
        "batch": torch.zeros(2, 1, dtype=torch.long),
    }


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
        one_batch = Cells(cells.matrix, cells.column_g, cells.library_size, np.zeros_like(cells.batch))
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


class PlainEncoder(SSLModule):
    """A network on normalised genes, for want of a pretrained encoder."""

    def __init__(self, *, normalize: LogNormalize, encoder: nn.Module) -> None:
        super().__init__()
        self.normalize = normalize
        self.encoder = encoder

    def embed(self, cells: dict[str, Tensor]) -> Tensor:
        """(n, n_latent)."""
        return self.encoder(self.normalize(cells))

    def loss_terms(self, cells: dict[str, Tensor]) -> dict[str, Tensor]:
        """It learns nothing by itself."""
        raise NotImplementedError("a plain encoder is trained only together with what stands on it.")


class OnEncoderModule(SSLModule):
    """An encoder, trained further or frozen; what stands on it is a subclass's."""

    def __init__(self, *, encoder: SSLModule, freeze_encoder: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.freeze_encoder = freeze_encoder
        embedding_parameters = set() if freeze_encoder else set(_of_embedding(encoder))
        for parameter in encoder.parameters():  # a decoder or a projector is not on the way to the prediction
            parameter.requires_grad_(parameter in embedding_parameters)

    @property
    def normalize(self) -> LogNormalize:  # type: ignore[override]
        """The encoder's."""
        return self.encoder.normalize

    def train(self, mode: bool = True) -> OnEncoderModule:
        """A frozen encoder stays in eval mode."""
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        return self

    def embed(self, cells: dict[str, Tensor]) -> Tensor:
        """The encoder's embedding (n, d)."""
        return self.encoder.embed(cells)


class OnEncoder(SSLModel):
    """A model that predicts from the embedding of another one.

    Genes, batches and library sizes are read as that one was trained to. Genes are matched by name: the cells may have others,
    and those that they lack take the encoder's mean, as long as half are there.
    """

    module: OnEncoderModule
    inputs = (*SSLModel.inputs, "scaled")
    takes_new_batches = True
    own_coverage = MIN_COVERAGE
    _encoder_registry: dict[str, Any] | None = None

    @property
    def _names_registry(self) -> dict[str, Any]:
        """Where the encoder's stand, if there is one."""
        return self._encoder_registry or self.registry_

    def _encoder(
        self,
        encoder: SSLModel | dict[str, Any] | None,
        network: Callable[[], nn.Module],
        *,
        freeze_encoder: bool,
    ) -> SSLModule:
        """A module like the encoder's, with its tensors when it is a model; or this network on normalised genes."""
        if freeze_encoder and encoder is None:
            raise ValueError("freeze_encoder=True needs a trained encoder: one from scratch knows nothing.")
        if encoder is None:
            return PlainEncoder(normalize=self._normalizer(), encoder=network())
        copied = self._copied(plain_encoder(encoder))
        if self._adata is not None:
            self._cells = self._read(self._adata, self.own_coverage)
        if isinstance(encoder, SSLModel):
            warn_untrained(encoder)
            copied.load_state_dict(encoder.module.state_dict())
        return copied

    def _copied(self, encoder: dict[str, Any]) -> SSLModule:
        """A module like the encoder's, whose names are read from here on; an error when it reads other input or batches."""
        model = class_named(encoder["class"])(None, registry=encoder["registry"], **encoder["params"])
        batch_key, own_key = (m.setup_arguments["batch_key"] for m in (model, self))
        if own_key not in (None, batch_key):
            raise ValueError(
                f"the encoder reads batches by batch_key={batch_key!r}, the cells are registered with batch_key={own_key!r}; "
                "register them with the encoder's, or without."
            )
        trained_on, found = (m.setup_arguments["input"] for m in (model, self))
        if trained_on != found:
            raise ValueError(f"the encoder was trained on input={trained_on!r}, the cells are input={found!r}.")
        self._encoder_registry = model._names_registry
        return model.module


def plain_encoder(encoder: SSLModel | dict[str, Any] | None) -> dict[str, Any] | None:
    """All that is needed to build the encoder again, as plain data."""
    if not isinstance(encoder, SSLModel):
        return encoder
    return {"class": type(encoder).__name__, "registry": encoder.registry_, "params": encoder.plain_init_params()}


def mean_and_sd(values: pd.DataFrame) -> tuple[Tensor, Tensor]:
    """Of each column, over what was measured; in double precision, as single sums depend on how a table lies in memory."""
    y_nf = values.to_numpy(np.float64)
    sd_f = np.maximum(np.nanstd(y_nf, axis=0), 1e-6)
    return torch.as_tensor(np.nanmean(y_nf, axis=0)), torch.as_tensor(sd_f)


def _of_embedding(module: SSLModule) -> list[nn.Parameter]:
    """The parameters that the embedding depends on."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    with torch.enable_grad():
        gradients = torch.autograd.grad(module.embed(empty_cells(module)).sum(), parameters, allow_unused=True)
    return [p for p, gradient in zip(parameters, gradients, strict=True) if gradient is not None]
