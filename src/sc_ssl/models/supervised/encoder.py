"""An encoder inside another model: copied from a trained one, trained further or frozen; or a network from scratch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from sc_ssl._logging import logger
from sc_ssl.data import MIN_COVERAGE
from sc_ssl.models.base import SSLModel, SSLModule, rebuilt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd

    from sc_ssl.nn import LogNormalize


def warn_untrained(model: SSLModel) -> None:
    """An untrained encoder is a random projection: of use to compare with, and otherwise a slip."""
    if not model.is_trained_:
        logger.warning(
            "The %s that serves as the encoder is not trained: its embedding is random.", type(model).__name__
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


class PlainEncoder(SSLModule):
    """A network on normalised genes, for want of a pretrained encoder."""

    def __init__(self, *, normalize: LogNormalize, encoder: nn.Module) -> None:
        super().__init__()
        self.normalize = normalize
        self.encoder = encoder

    def embed(self, cells: Mapping[str, Tensor]) -> Tensor:
        """(n, n_latent)."""
        z_nd: Tensor = self.encoder(self.normalize(cells))
        return z_nd

    def loss_terms(self, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """It learns nothing by itself."""
        raise NotImplementedError("a plain encoder is trained only together with a head.")


class OnEncoderModule(SSLModule):
    """An encoder, trained further or frozen, and a head on its embedding, which a subclass adds."""

    def __init__(self, *, encoder: SSLModule, freeze_encoder: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        self.freeze_encoder = freeze_encoder
        if freeze_encoder:
            encoder.requires_grad_(False)

    @property
    def normalize(self) -> LogNormalize:  # type: ignore[override]
        """The encoder's."""
        return self.encoder.normalize

    def train(self, mode: bool = True) -> Self:
        """A frozen encoder stays in eval mode."""
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        return self

    def embed(self, cells: Mapping[str, Tensor]) -> Tensor:
        """The encoder's embedding (n, d)."""
        return self.encoder.embed(cells)


class OnEncoder(SSLModel):
    """A model that predicts from the embedding of another one.

    Genes, batches and library sizes are read as that one was trained to. Genes are matched by name: the cells may have
    others, and those that they lack take the encoder's mean, as long as half are there.
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
        self, encoder: SSLModel | dict[str, Any] | None, network: Callable[[], nn.Module], *, freeze_encoder: bool
    ) -> SSLModule:
        """A copy of the encoder, its decoders and projectors frozen; or this network on normalised genes."""
        if freeze_encoder and encoder is None:
            raise ValueError("freeze_encoder=True needs a trained encoder: one from scratch knows nothing.")
        if encoder is None:
            return PlainEncoder(normalize=self._normalizer(), encoder=network())
        copied = self._copied(encoder)
        on_the_way = set(_of_embedding(copied))
        for parameter in copied.parameters():  # a decoder or a projector is not on the way to the prediction
            parameter.requires_grad_(parameter in on_the_way)
        if self._adata is not None:
            self._cells = self._read(self._adata, self.own_coverage).apart_from(self._adata)
        if isinstance(encoder, SSLModel):
            warn_untrained(encoder)
        return copied

    def _copied(self, encoder: SSLModel | dict[str, Any]) -> SSLModule:
        """A module like the encoder's, with its tensors when it is a model and not a specification of one.

        The names of genes and batches are the encoder's from here on; an error when it reads other input or batches.
        """
        if isinstance(encoder, SSLModel):
            model = rebuilt(encoder.specification(), encoder.module.state_dict())
        else:
            model = rebuilt(encoder)
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


def specification_of(encoder: SSLModel | dict[str, Any] | None) -> dict[str, Any] | None:
    """The specification of an encoder that is given as a model or, of a saved model, as its specification."""
    return encoder.specification() if isinstance(encoder, SSLModel) else encoder


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
