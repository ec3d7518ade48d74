"""The contrastive teacher whose features MaskSC predicts when it is asked to: built, trained, frozen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_ssl._logging import logger

from ._layout import cross_context
from ._training import fit
from .contrastive_sc import ContrastiveSC, ContrastiveSCModule

if TYPE_CHECKING:
    from sc_ssl.data import Cells

    from ._base import SSLModel


class FrozenTeacher(nn.Module):
    """Features of whole cells or of patches from a contrastive encoder; never trained as part of this.

    Parameters
    ----------
    contrastive
        Contrastive module over the same genes.
    patch_genes_tp
        Positions of each patch's genes, −1 for none.
    context_tt
        True where patch j belongs to what the teacher sees for patch i; ``None`` where it sees the whole cell.
    is_trained
        Whether it is trained already.
    """

    is_trained: Tensor
    mean_td: Tensor
    sd_td: Tensor
    patch_genes_tp: Tensor
    context_tt: Tensor | None

    def __init__(
        self,
        contrastive: ContrastiveSCModule,
        patch_genes_tp: Tensor,
        context_tt: Tensor | None,
        *,
        is_trained: bool = False,
    ) -> None:
        super().__init__()
        self.contrastive = contrastive.requires_grad_(False).eval()
        last = contrastive.encoder[-1]
        self.n_features = int(last.out_features)
        self.register_buffer("is_trained", torch.tensor(is_trained))
        self.register_buffer("patch_genes_tp", patch_genes_tp)
        self.register_buffer("context_tt", context_tt)
        shape = (1 if context_tt is None else len(patch_genes_tp), self.n_features)
        self.register_buffer("mean_td", torch.zeros(shape))
        self.register_buffer("sd_td", torch.ones(shape))

    def train(self, mode: bool = True) -> FrozenTeacher:
        """Always in eval mode: no dropout, batch norm fixed."""
        return super().train(False)

    @contextmanager
    def unfrozen(self) -> Iterator[ContrastiveSCModule]:
        """The encoder, trainable inside the block."""
        try:
            yield self.contrastive.requires_grad_(True)
        finally:
            self.contrastive.requires_grad_(False).eval()

    def forward(self, x_ng: Tensor, patch_ntp: Tensor) -> Tensor:
        """Features (n, t, c) of each patch with its context, or (n, 1, c) of whole cells; standardised."""
        return (self._features(x_ng, patch_ntp) - self.mean_td) / self.sd_td

    def fit_scale(self, minibatches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Measure mean and sd per patch and dimension: the constant part says nothing about a cell."""
        n, total, squares = 0, torch.zeros_like(self.mean_td), torch.zeros_like(self.mean_td)
        for x_ng, patch_ntp in minibatches:
            features = self._features(x_ng, patch_ntp)
            n, total, squares = n + len(features), total + features.sum(0), squares + features.square().sum(0)
        self.mean_td.copy_(total / n)
        self.sd_td.copy_((squares / n - self.mean_td.square()).clamp(min=1e-12).sqrt())

    def _features(self, x_ng: Tensor, patch_ntp: Tensor) -> Tensor:
        if self.context_tt is None:
            return F.normalize(self.contrastive.encoder(x_ng), dim=1)[:, None]
        # the first layer is linear: what a teacher sees of a set of patches is the sum of what it sees of each
        first, *rest = self.contrastive.encoder
        scale = len(self.context_tt) / self.context_tt.sum(dim=1)[:, None]
        weight_ght = torch.cat([first.weight.T, first.weight.new_zeros(1, first.out_features)])[self.patch_genes_tp]
        h_nth = torch.einsum("ntp,tph->nth", patch_ntp, weight_ght)
        h_nth = torch.einsum("ij,njh->nih", self.context_tt.to(h_nth.dtype), h_nth) * scale + first.bias
        h = h_nth.flatten(0, 1)
        for layer in rest:
            h = layer(h)
        return F.normalize(h, dim=1).view(*h_nth.shape[:2], -1)


def check_teacher(model: SSLModel, teacher: ContrastiveSC) -> None:
    """Refuse a teacher that does not know this model's genes, batches and input."""
    if not teacher.is_trained_:
        raise ValueError("the teacher must be trained; call its train() first.")
    genes = model.var_names
    if teacher.var_names != genes:
        raise ValueError(
            f"the teacher must know the model's {len(genes)} genes in the same order, found "
            f"{len(teacher.var_names)} genes of its own; set both up with the same AnnData."
        )
    theirs = teacher.summary_stats.n_batch, teacher.setup_arguments["input"]
    ours = model.summary_stats.n_batch, model.setup_arguments["input"]
    if theirs != ours:
        raise ValueError(f"the teacher must have the model's number of batches and input {ours}, found {theirs}.")


def build_teacher(
    model: SSLModel, given: ContrastiveSC | None, teacher_kwargs: dict[str, Any], target: str, patch_genes_tp: Tensor
) -> FrozenTeacher:
    """A contrastive encoder over the model's genes that is still to be trained, or a copy of a given one."""
    contrastive = ContrastiveSC(None, registry=model.registry_, **teacher_kwargs).module
    if given is not None:
        contrastive.load_state_dict(given.module.state_dict())
    n_patches = len(patch_genes_tp)
    context = {"cross": cross_context(n_patches), "patch": torch.eye(n_patches, dtype=torch.bool)}.get(target)
    return FrozenTeacher(contrastive, patch_genes_tp, context, is_trained=given is not None)


def train_teacher(
    model: SSLModel, teacher: FrozenTeacher, cells: Cells, *, max_epochs: int | None, **fit_options: Any
) -> None:
    """Train it on the model's cells; the history's names begin with ``teacher_``."""
    logger.info("Training the contrastive teacher.")
    epochs = ContrastiveSC.training.epochs(cells.n_cells, ContrastiveSC.training.batch_size)
    fit_options |= {"max_epochs": min(epochs, max_epochs or epochs), "prefix": "teacher_"}
    with teacher.unfrozen() as contrastive:
        fit(model, contrastive, ContrastiveSC.training, cells=cells, **fit_options)
    teacher.is_trained.fill_(True)
    logger.info("Training the masked model.")
