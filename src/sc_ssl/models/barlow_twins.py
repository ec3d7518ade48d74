"""Barlow Twins (Zbontar et al. 2021) and VICReg (Bardes et al. 2022) for cells, after Richter et al. (2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from sc_ssl.losses import barlow_twins, vicreg
from sc_ssl.train import View

from .base import ContrastModule, TrainingDefaults
from .two_views import JointEmbeddingModel, JointEmbeddingModule, augmentation_strengths

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData


class BarlowTwinsModule(JointEmbeddingModule, ContrastModule):
    """Each dimension shall be the same in two views of a cell, and no two dimensions the same."""

    def __init__(self, *, objective: str, redundancy_weight: float, **parts: Any) -> None:
        super().__init__(**parts)
        self.objective = objective
        self.redundancy_weight = redundancy_weight

    def encode_view(self, cells: dict[str, Tensor]) -> View:
        """Change the cells and encode them."""
        return View(self.encoder(self.view(cells)), {}, {})

    def contrast(self, views: list[Tensor]) -> dict[str, Tensor]:
        """The objective between two views where they are projected to."""
        view_1_nd, view_2_nd = (self.projector(view_nd) for view_nd in views)
        if self.objective == "vicreg":
            return {"vicreg": vicreg(view_1_nd, view_2_nd)}
        return {"barlow_twins": barlow_twins(view_1_nd, view_2_nd, self.redundancy_weight)}


class BarlowTwins(JointEmbeddingModel):
    """Barlow Twins: dimensions that agree between two views of a cell and are not redundant; key ``X_barlow_twins``.

    Departs from Richter et al.'s code: one optimiser for the whole run, where theirs was made anew at each step; both
    views are changed, theirs one; the correlation is over the cells of the minibatch. The defaults were chosen on
    development data.

    Parameters
    ----------
    adata
        Cells registered with :meth:`setup_anndata`.
    registry
        Instead of ``adata``: the registry of a saved model.
    augmentations
        Parts of a view and their strengths, as in :class:`BYOL`; by default ``{"gene_dropout": 0.5}``.
    programs
        For ``"program_dropout"``: as in :class:`MaskedAutoencoder`.
    objective
        ``"barlow_twins"``; ``"vicreg"``: variance, invariance and covariance with the weights of its paper.
    redundancy_weight
        λ, of the correlation between different dimensions in Barlow Twins, ≥ 0.
    n_hidden
        Widths of the encoder's hidden layers.
    n_latent
        Dimension of the embedding.
    projector
        Widths of the projector on the embedding, the last one its output.
    norm
        ``"batch"`` or ``"layer"`` norm in the encoder; the projector has batch norm. With ``"layer"``,
        ``train(batch_size=…, micro_batch_size=…)`` correlates over large minibatches in the memory of small ones.
    weigh_genes
        Multiply z-scores by :func:`~sc_ssl.data.gene_weights`; log-normalised input never is.

    References
    ----------
    Zbontar et al. (2021), Barlow Twins, ICML. Richter et al. (2024), Delineating the effective use of self-supervised
    learning in single-cell genomics, Nature Machine Intelligence 7:68.
    """

    training = TrainingDefaults(
        max_epochs=60,
        batch_size=256,
        min_steps=400,
        plan={"lr": 3e-3, "weight_decay": 1e-4, "warmup_rate": 0.05},
        gradient_clip_val=1.0,
    )
    module: BarlowTwinsModule

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        augmentations: Mapping[str, float] | None = None,
        programs: str | Path | Mapping[str, Sequence[str]] | pd.DataFrame | None = None,
        objective: Literal["barlow_twins", "vicreg"] = "barlow_twins",
        redundancy_weight: float = 5.1e-3,
        n_hidden: Sequence[int] = (256,),
        n_latent: int = 64,
        projector: Sequence[int] = (256, 256),
        norm: Literal["batch", "layer"] = "batch",
        weigh_genes: bool = True,
    ) -> None:
        super().__init__(adata, registry)
        if objective not in ("barlow_twins", "vicreg"):
            raise ValueError(f"objective is 'barlow_twins' or 'vicreg', found {objective!r}.")
        if not redundancy_weight >= 0:
            raise ValueError(f"redundancy_weight is at least 0, found {redundancy_weight}.")
        augmentations = augmentation_strengths(augmentations, {"gene_dropout": 0.5})
        programs = self._programs(programs)
        sizes: dict[str, Any] = {"n_hidden": n_hidden, "n_latent": n_latent, "projector": projector, "norm": norm}
        self.module = BarlowTwinsModule(
            **self._parts(augmentations, programs, weigh_genes=weigh_genes, **sizes),
            objective=objective,
            redundancy_weight=redundancy_weight,
        )
        self.init_params_ = self._get_init_params(locals())
