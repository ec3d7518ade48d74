"""What every module of the package can do, and what modules that contrast two views share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping

import torch
from scvi.module.base import BaseModuleClass, LossOutput
from torch import Tensor

from sc_ssl.nn import LogNormalize
from sc_ssl.train import View, joint_terms


class SSLModule(BaseModuleClass):
    """A self-supervised module: ``embed`` is the clean embedding, ``loss_terms`` the named terms that are minimised.

    Both take the whole minibatch, ``{"X": (n, g) counts, "library_size": (n, 1), "batch": (n, 1)}``. Views, masks and
    noise are drawn inside ``loss_terms`` and nowhere else. All state lives in parameters and buffers.
    """

    normalize: LogNormalize
    #: the embedding is a continuous function of :meth:`expression`
    is_continuous: bool = True

    @abstractmethod
    def embed(self, cells: Mapping[str, Tensor]) -> Tensor:
        """The embedding (n, d) of the cells as they are; deterministic in eval mode."""

    def expression(self, cells: Mapping[str, Tensor]) -> Tensor:
        """What the embedding is computed from, and is explained by: weighed z-scores of log1p, (n, g)."""
        return self.normalize(cells)

    def embed_expression(self, x_ng: Tensor, batch_n1: Tensor) -> Tensor:
        """The embedding (n, d) of cells with this :meth:`expression`; differentiable, and as :meth:`embed` otherwise."""
        return self.embed({"normalized": x_ng, "batch": batch_n1})

    @abstractmethod
    def loss_terms(self, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The loss as ``{term: weighted scalar}``; their sum is minimised."""

    def after_step(self) -> None:
        """Called after each optimiser step, for moving averages and the like."""

    def after_fit(self, minibatches: Iterable[Mapping[str, Tensor]]) -> None:
        """Called with the training cells once training has ended."""

    # the verbs that scvi-tools asks of a module

    def _get_inference_input(self, tensors: Mapping[str, Tensor], **_: object) -> dict[str, dict[str, Tensor]]:
        return {"cells": tensors}

    def inference(self, cells: Mapping[str, Tensor], **_: object) -> dict[str, Tensor]:
        """The clean embedding, under the name that scvi-tools gives it."""
        return {"z": self.embed(cells)}

    def _get_generative_input(self, tensors: object, inference_outputs: object, **_: object) -> dict[str, Tensor]:
        return {}

    def generative(self, **_: object) -> dict[str, Tensor]:
        """Nothing is generated."""
        return {}

    def loss(self, tensors: Mapping[str, Tensor], inference_outputs: object, generative_outputs: object) -> LossOutput:
        """The sum of the terms, under the name that scvi-tools gives it."""
        terms = self.loss_terms(tensors)
        return LossOutput(
            loss=torch.stack(list(terms.values())).sum(),
            n_obs_minibatch=len(tensors["batch"]),
            extra_metrics={name: term.detach() for name, term in terms.items()},
        )

    def sample(self, *_: object, **__: object) -> None:
        """Not a generative model."""
        raise NotImplementedError("a self-supervised module has no distribution to sample from.")


class ContrastModule(SSLModule):
    """``loss_terms`` in two parts: what each cell can do alone, and what needs the embeddings of all.

    :class:`~sc_ssl.train.ChunkedContrastPlan` needs no more than these parts.
    """

    n_views: int = 2
    #: the noise of a view is drawn once for all cells, and must be the same in all chunks
    shares_noise: bool = False

    @abstractmethod
    def encode_view(self, cells: Mapping[str, Tensor]) -> View:
        """A random view of these cells; no cell's embedding depends on another cell."""

    @abstractmethod
    def contrast(self, views: list[Tensor]) -> dict[str, Tensor]:
        """The weighted terms of the embeddings (n, d) of all cells in each view."""

    def order(self, cells: Mapping[str, Tensor]) -> Tensor:
        """The order in which cells are chunked, (n,): as they come."""
        return torch.arange(len(cells["batch"]), device=cells["batch"].device)

    def loss_terms(self, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All terms of an undivided minibatch."""
        return joint_terms(self, [[self.encode_view(cells)] for _ in range(self.n_views)])
