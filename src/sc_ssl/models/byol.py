"""BYOL (Grill et al. 2020) and SimSiam (Chen & He 2021) for cells, as compared by Richter et al. (2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sc_ssl._checks import check_choice, check_rate
from sc_ssl.losses import negative_cosine
from sc_ssl.nn import MLP

from .base import TrainingDefaults
from .two_views import TwoViewModel, TwoViewModule, augmentation_strengths

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData


class Target(AveragedModel):
    """The exponential moving average of a network, in parameters and batch-norm statistics; no gradient trains it.

    It stays in eval mode whatever the module around it does, and is saved with the module.

    Parameters
    ----------
    online
        The network to follow; copied.
    momentum
        Share of the average that stays at each update, in [0, 1).
    """

    def __init__(self, online: nn.Module, momentum: float) -> None:
        super().__init__(online, multi_avg_fn=get_ema_multi_avg_fn(momentum), use_buffers=True)
        self.n_averaged.fill_(1)  # at 0 the first update would copy the network
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Target:
        """Always in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """``average ← momentum · average + (1 − momentum) · model``; counters, which have no average, are copied."""
        super().update_parameters(model)
        for average, value in zip(self.module.buffers(), model.buffers(), strict=True):
            if not average.is_floating_point():
                average.copy_(value)

    @torch.no_grad()
    def forward(self, x_ng: Tensor) -> Tensor:
        """The averaged network's projection of a view."""
        return super().forward(x_ng)


class BYOLModule(TwoViewModule):
    """From one view of a cell, predict the projection of another view by a slowly following copy of the network."""

    def __init__(self, *, predictor: MLP, momentum: float | None, **parts: Any) -> None:
        super().__init__(**parts)
        self.predictor = predictor
        self.target = None if momentum is None else Target(self.online, momentum)

    @property
    def online(self) -> nn.Sequential:
        """The network that the target follows."""
        return nn.Sequential(self.encoder, self.projector)

    def loss_terms(self, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Squared distance of unit vectors, each view predicting the other; 0 to 8."""
        view_1, view_2 = self.view(cells), self.view(cells)
        online = self.online
        online_1, online_2 = online(view_1), online(view_2)
        # without a moving average the target is the network itself, no gradient (SimSiam)
        target_1, target_2 = (online_1, online_2) if self.target is None else (self.target(view_1), self.target(view_2))
        cosine = negative_cosine(self.predictor(online_1), target_2) + negative_cosine(
            self.predictor(online_2), target_1
        )
        return {"byol": 4 + 2 * cosine}

    def after_step(self) -> None:
        """The target follows the network."""
        if self.target is not None:
            self.target.update_parameters(self.online)


class BYOL(TwoViewModel):
    """BYOL: from one view of a cell, predict how a slowly following network embeds another view; key ``X_byol``.

    No cell is pushed away from another, so a collapse of the embedding is possible. It is watched for: the
    history gets ``embedding_spread`` and ``effective_rank`` after each epoch, and a collapse is warned about.

    Parameters
    ----------
    adata
        Cells registered with :meth:`setup_anndata`.
    registry
        Instead of ``adata``: the registry of a saved model.
    augmentations
        Parts of a view and their strengths: ``"gene_dropout"``, share of genes hidden, in (0, 1);
        ``"binomial_thinning"``, largest share of molecules that a cell loses, in (0, 1); ``"nb_noise"``, dispersion of
        a negative binomial around each count, > 0; ``"gaussian_noise"``, sd on the log-expression of expressed genes;
        ``"program_dropout"``, share of the genes of ``programs`` hidden by whole programmes, in (0, 1). By default
        ``{"gene_dropout": 0.8}``.
    programs
        For ``"program_dropout"``: as in :class:`MaskedAutoencoder`.
    target
        ``"moving_average"``; ``"online"``: the network itself without gradient, which is SimSiam.
    momentum
        Share of the moving average that stays at each step, in [0, 1).
    n_hidden
        Widths of the encoder's hidden layers.
    n_latent
        Dimension of the embedding.
    projector
        Widths of the projector on the embedding, the last one its output; the predictor has the same.
    norm
        ``"batch"`` or ``"layer"`` norm in the encoder; projector and predictor have batch norm.
    weigh_genes
        Multiply z-scores by :func:`~sc_ssl.data.gene_weights`; log-normalised input never is.

    Notes
    -----
    Differences from Richter et al.'s code:

    * Target: it never moved there; here it is the moving average of parameters and batch-norm statistics, updated after
      each step.
    * Projector: there the embedding lay beside the path of the gradient; here the projector takes the embedding.
    * Views: one for a minibatch there; here drawn for each cell alone, and they change counts as sequencing would.
    * Predictor: here it learns at ten times the rate of the rest, so that it stays near its optimum (Tian et al. 2021).

    The defaults were chosen on development data.

    References
    ----------
    Grill et al. (2020), Bootstrap your own latent, NeurIPS. Tian, Chen & Ganguli (2021), Understanding self-supervised
    learning dynamics without contrastive pairs, ICML. Richter et al. (2024), Delineating the effective use of
    self-supervised learning in single-cell genomics, Nature Machine Intelligence 7:68.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> sc_ssl.models.BYOL.setup_anndata(adata)
    >>> model = sc_ssl.models.BYOL(adata)
    >>> model.train()
    >>> model.get_latent_representation().shape
    (700, 64)
    """

    training = TrainingDefaults(
        max_epochs=60,
        batch_size=256,
        min_steps=400,
        plan={"lr": 1e-2, "lr_factor": {"predictor.": 10.0}, "weight_decay": 1e-4, "warmup_rate": 0.05},
        gradient_clip_val=1.0,
    )
    module: BYOLModule

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        augmentations: Mapping[str, float] | None = None,
        programs: str | Path | Mapping[str, Sequence[str]] | pd.DataFrame | None = None,
        target: Literal["moving_average", "online"] = "moving_average",
        momentum: float = 0.99,
        n_hidden: Sequence[int] = (256,),
        n_latent: int = 64,
        projector: Sequence[int] = (256, 64),
        norm: Literal["batch", "layer"] = "batch",
        weigh_genes: bool = True,
    ) -> None:
        super().__init__(adata, registry)
        check_choice("target", target, ("moving_average", "online"))
        check_rate("momentum", momentum)
        augmentations = augmentation_strengths(augmentations, {"gene_dropout": 0.8})
        programs = self._programs(programs)
        sizes: dict[str, Any] = {"n_hidden": n_hidden, "n_latent": n_latent, "projector": projector, "norm": norm}
        self.module = BYOLModule(
            **self._parts(augmentations, programs, weigh_genes=weigh_genes, **sizes),
            predictor=MLP(projector[-1], projector[:-1], projector[-1], norm="batch"),
            momentum=momentum if target == "moving_average" else None,
        )
        self.init_params_ = self._get_init_params(locals())
