"""BYOL (Grill et al. 2020) and SimSiam (Chen & He 2021) for cells, as compared by Richter et al. (2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from sc_ssl.losses import negative_cosine
from sc_ssl.nn import MLP, MovingAverage

from .base import TrainingDefaults
from .two_views import JointEmbeddingModel, JointEmbeddingModule, augmentation_strengths

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData


class BYOLModule(JointEmbeddingModule):
    """From one view of a cell, predict what a slower copy of the network says of another."""

    def __init__(self, *, predictor: MLP, momentum: float | None, **parts: Any) -> None:
        super().__init__(**parts)
        self.predictor = predictor
        self.target = None if momentum is None else MovingAverage(self.online, momentum)

    @property
    def online(self) -> nn.Sequential:
        """The network that the target follows."""
        return nn.Sequential(self.encoder, self.projector)

    def loss_terms(self, cells: dict[str, Tensor]) -> dict[str, Tensor]:
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
        """The target follows."""
        if self.target is not None:
            self.target.update(self.online)


class BYOL(JointEmbeddingModel):
    """BYOL: predict from one view of a cell what a slower copy of the network says of another; key ``X_byol``.

    No cell is pushed away from another. That the embedding does not collapse is watched, see :meth:`train`.

    Departs from Richter et al.'s code, where the target never moved and the embedding lay beside the path of the
    gradient: the target is the moving average of parameters and batch-norm statistics, updated after each step; the
    projector stands on the embedding; views are drawn for each cell alone and change counts as sequencing would. The
    predictor learns at ten times the rate of the rest, so that it stays near its optimum (Tian et al. 2021). The
    defaults were chosen on development data.

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

    References
    ----------
    Grill et al. (2020), Bootstrap your own latent, NeurIPS. Tian, Chen & Ganguli (2021), Understanding self-supervised
    learning dynamics without contrastive pairs, ICML. Richter et al. (2024), Delineating the effective use of
    self-supervised learning in single-cell genomics, Nature Machine Intelligence 7:68.
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
        if target not in ("moving_average", "online"):
            raise ValueError(f"target is 'moving_average' or 'online', found {target!r}.")
        augmentations = augmentation_strengths(augmentations, {"gene_dropout": 0.8})
        programs = self._programs(programs)
        sizes: dict[str, Any] = {"n_hidden": n_hidden, "n_latent": n_latent, "projector": projector, "norm": norm}
        self.module = BYOLModule(
            **self._parts(augmentations, programs, weigh_genes=weigh_genes, **sizes),
            predictor=MLP(projector[-1], projector[:-1], projector[-1], norm="batch"),
            momentum=momentum if target == "moving_average" else None,
        )
        self.init_params_ = self._get_init_params(locals())
