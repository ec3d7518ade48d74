"""Parts of methods that compare two views of each cell by a projection of the embedding, and a watch over collapse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim.swa_utils import update_bn

from sc_ssl._logging import logger
from sc_ssl.data import evenly_spread, find_programs, program_members
from sc_ssl.nn import MLP
from sc_ssl.train import View
from sc_ssl.views import (
    Augmentation,
    Augmentations,
    BinomialThinning,
    GaussianNoise,
    GeneDropout,
    GenePrograms,
    NegativeBinomialNoise,
    ProgramDropout,
)

from .base import ContrastModule, Phase, SSLModel, SSLModule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sc_ssl.nn import LogNormalize


AUGMENTATIONS = ("gene_dropout", "binomial_thinning", "nb_noise", "gaussian_noise", "program_dropout")


class TwoViewModule(SSLModule):
    """An encoder whose embedding is projected to where two views of a cell are compared."""

    def __init__(self, *, normalize: LogNormalize, augment: Augmentations, encoder: MLP, projector: MLP) -> None:
        super().__init__()
        self.normalize = normalize
        self.augment = augment
        self.encoder = encoder
        self.projector = projector

    def embed(self, cells: Mapping[str, Tensor]) -> Tensor:
        """The encoder's output (n, n_latent), before the projector, of cells as they are."""
        return self.encoder(self.normalize(cells))

    def view(self, cells: Mapping[str, Tensor]) -> Tensor:
        """A random view of each cell, (n, g)."""
        return self.augment(cells, self.normalize)

    def after_fit(self, minibatches: Iterable[Mapping[str, Tensor]]) -> None:
        """Re-estimate the batch-norm statistics on whole cells: those of training are of views, which are noisier."""
        # a last minibatch of one cell has no variance
        update_bn((self.normalize(cells) for cells in minibatches if len(cells["batch"]) > 1), self.encoder)


class TwoViewContrast(TwoViewModule, ContrastModule):
    """Two views whose embeddings are compared over all cells of a minibatch; a subclass projects and compares them."""

    def encode_view(self, cells: Mapping[str, Tensor]) -> View:
        """The embedding of a random view of each cell, before the projector, (n, n_latent)."""
        return View(self.encoder(self.view(cells)), {}, {})


class TwoViewModel(SSLModel):
    """A model of a :class:`TwoViewModule`; its training is watched for collapse."""

    module: TwoViewModule
    reads = {"programs": ("varm", "uns")}

    def phases(self, max_epochs: int | None = None) -> Iterator[Phase]:
        """One, watched for collapse.

        The history also gets ``embedding_spread`` and ``effective_rank``. The first is the mean standard deviation of the
        embedding's dimensions at length 1 (at most about ``1 / sqrt(n_latent)``), the second the exponential of the
        entropy of its singular values (1 to ``n_latent``). Where all cells come to the same point a warning is logged.
        """
        yield Phase(self.module, self._own_cells(), self.training, max_epochs, callbacks=[CollapseWatch(self)])

    def _parts(
        self,
        augmentations: Mapping[str, float] | None,
        programs: Mapping[str, Sequence[str]] | None,
        *,
        n_hidden: Sequence[int],
        n_latent: int,
        projector: Sequence[int],
        norm: str,
        weigh_genes: bool,
    ) -> dict[str, Any]:
        """Normalisation, views, encoder and projector."""
        if not isinstance(projector, Sequence) or not projector:
            raise ValueError(f"projector holds the widths of its layers, the last one its output; found {projector!r}.")
        log_input = self.setup_arguments["input"] == "log1p"
        return {
            "normalize": self._normalizer(weigh_genes=weigh_genes),
            "augment": build_augmentations(augmentations or {}, programs, self.var_names, log_input=log_input),
            "encoder": MLP(len(self.var_names), n_hidden, n_latent, norm=norm),
            "projector": MLP(n_latent, projector[:-1], projector[-1], norm="batch"),
        }

    def _programs(self, programs: Any) -> dict[str, list[str]] | None:
        """Gene programmes from a file, a table or a key of the model's cells."""
        return None if programs is None else find_programs(programs, self._adata)


def augmentation_strengths(augmentations: Mapping[str, float] | None, default: Mapping[str, float]) -> dict[str, float]:
    """The augmentations that are given, or the default; an error unless they are names and numbers."""
    if augmentations is None:
        return dict(default)
    if not isinstance(augmentations, Mapping):
        raise TypeError(
            f"augmentations are names and strengths, {{'gene_dropout': 0.5}} for example, found {augmentations!r}."
        )
    for name, strength in augmentations.items():
        if not isinstance(strength, Real):
            raise TypeError(f"the strength of augmentation {name!r} is a number, found {strength!r}.")
    return dict(augmentations)


def build_augmentations(
    strengths: Mapping[str, float],
    programs: Mapping[str, Sequence[str]] | None,
    genes: Sequence[str],
    *,
    log_input: bool = False,
) -> Augmentations:
    """A view of these parts and strengths, in the order of :class:`~sc_ssl.views.Augmentations`."""
    unknown = [name for name in strengths if name not in AUGMENTATIONS]
    if unknown:
        raise ValueError(f"augmentations are {', '.join(map(repr, AUGMENTATIONS))}, found {unknown[0]!r}.")
    if log_input and {"binomial_thinning", "nb_noise"} & set(strengths):
        raise ValueError("binomial_thinning and nb_noise act on raw counts, found input='log1p'; leave them out.")
    if "program_dropout" in strengths and programs is None:
        raise ValueError("program_dropout needs programs: a GMT file, a dictionary or a key of varm or uns.")
    build = {
        "gene_dropout": GeneDropout,
        "binomial_thinning": BinomialThinning,
        "nb_noise": NegativeBinomialNoise,
        "gaussian_noise": GaussianNoise,
    }
    if programs is not None and "program_dropout" not in strengths:
        raise ValueError("programs are for program_dropout, which augmentations lacks; add it, or leave out programs.")
    # programmes come last: within the z-scores parts act in the order given
    parts: list[Augmentation] = [build[name](strength) for name, strength in strengths.items() if name in build]
    if programs is not None:
        member_pg = torch.as_tensor(program_members(programs, genes)[1])
        parts.append(ProgramDropout(GenePrograms(member_pg, strengths["program_dropout"])))
    return Augmentations(parts)


#: cells that are looked at after each epoch
N_SAMPLED = 512
#: below this share of what d independent dimensions would have, the spread counts as none
MIN_SPREAD = 0.1
#: below it nearly all that differs between cells lies on one line
MIN_RANK = 1.5


class CollapseWatch(Callback):
    """After each epoch, logs how far an embedding spreads over cells and dimensions; warns at the end if it does not.

    Parameters
    ----------
    model
        The model in training.
    """

    def __init__(self, model: SSLModel) -> None:
        self.model = model

    def on_train_epoch_end(self, trainer: Trainer, plan: LightningModule) -> None:
        """Log ``embedding_spread`` and ``effective_rank`` of evenly spread cells."""
        n_cells = self.model._own_cells().n_cells
        z_nd = self.model._map_cells(plan.module.embed, None, evenly_spread(n_cells, N_SAMPLED), finite=False)
        self._n_latent = z_nd.shape[1]
        self._spread, self._rank = embedding_spread(z_nd), effective_rank(z_nd)
        plan.log("embedding_spread", self._spread)
        plan.log("effective_rank", self._rank)

    def on_train_end(self, trainer: Trainer, plan: LightningModule) -> None:
        """Warn when nothing is left of the differences between cells, or no more than one line."""
        expected = self._n_latent**-0.5
        if self._spread < MIN_SPREAD * expected or self._rank < min(MIN_RANK, self._n_latent):
            logger.warning(
                "The embedding has collapsed: its dimensions spread by %.1e, %.1e would be usual, and its effective "
                "rank is %.1f of %d. Lower the learning rate, strengthen the views or train longer.",
                self._spread,
                expected,
                self._rank,
                self._n_latent,
            )


def embedding_spread(z_nd: np.ndarray) -> float:
    """Mean standard deviation of the dimensions of unit vectors; ``1 / sqrt(d)`` when they point anywhere."""
    unit_nd = z_nd / np.maximum(np.linalg.norm(z_nd, axis=1, keepdims=True), 1e-12)
    return float(unit_nd.std(axis=0).mean())


def effective_rank(z_nd: np.ndarray) -> float:
    """Exponential of the entropy of the singular values of the centred embedding, 1 to d (Roy & Vetterli 2007)."""
    if not np.isfinite(z_nd).all():  # the training plan stops with an error
        return float("nan")
    # singular values as shares of their sum; those of 0 add nothing to the entropy
    singular = np.linalg.svd(z_nd - z_nd.mean(axis=0), compute_uv=False).astype(np.float64)
    share = singular / max(singular.sum(), 1e-300)
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))
