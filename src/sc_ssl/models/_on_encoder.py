"""What stands on an encoder: that of a trained model, which is copied, or a plain network from scratch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ._base import SSLModel
from ._cells_model import MIN_COVERAGE
from ._encoders import class_named, empty_cells, warn_untrained
from ._module import SSLModule

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from sc_ssl.nn import LogNormalize


class PlainEncoder(SSLModule):
    """A network on normalised genes, for want of a pretrained encoder."""

    def __init__(self, *, normalize: LogNormalize, encoder: nn.Module) -> None:
        super().__init__()
        self.normalize = normalize
        self.encoder = encoder

    def embed(self, cells: dict[str, Tensor]) -> Tensor:
        """(n, n_latent)."""
        return self.encoder(self.normalize(cells))

    def ssl_loss(self, cells: dict[str, Tensor]) -> dict[str, Tensor]:
        """It learns nothing by itself."""
        raise NotImplementedError("a plain encoder is trained only together with what stands on it.")


class OnEncoderModule(SSLModule):
    """An encoder, trained further or frozen; what stands on it is a subclass's."""

    def __init__(self, *, encoder: SSLModule, freeze_encoder: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.reads_counts = encoder.reads_counts
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
