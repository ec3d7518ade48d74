"""Barlow Twins (Zbontar et al. 2021) for cells, after Richter et al. (2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from sc_ssl._checks import check_weight
from sc_ssl.losses import barlow_twins

from .base import TrainingDefaults
from .two_views import TwoViewContrast, TwoViewModel, augmentation_strengths

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData


class BarlowTwinsModule(TwoViewContrast):
    """Each dimension is to be the same in two views of a cell, and no two dimensions the same."""

    def __init__(self, *, redundancy_weight: float, **parts: Any) -> None:
        super().__init__(**parts)
        self.redundancy_weight = redundancy_weight

    def contrast(self, views: list[Tensor]) -> dict[str, Tensor]:
        """The correlation of the projected views, as far as it is not the identity."""
        view_1_nd, view_2_nd = (self.projector(view_nd) for view_nd in views)
        return {"barlow_twins": barlow_twins(view_1_nd, view_2_nd, self.redundancy_weight)}


class BarlowTwins(TwoViewModel):
    """Barlow Twins: dimensions that agree between two views of a cell and are not redundant; key ``X_barlow_twins``.

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
    redundancy_weight
        λ, of the correlation between different dimensions, ≥ 0.
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

    Notes
    -----
    Differences from Richter et al.'s code:

    * Optimiser: created again at each step there; here one for the whole run.
    * Views: one of the two is changed there; here both are.
    * Correlation: divided by the nominal size of a minibatch there; here by the number of its cells.

    The defaults were chosen on development data.

    References
    ----------
    Zbontar et al. (2021), Barlow Twins, ICML. Richter et al. (2024), Delineating the effective use of self-supervised
    learning in single-cell genomics, Nature Machine Intelligence 7:68.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> sc_ssl.models.BarlowTwins.setup_anndata(adata)
    >>> model = sc_ssl.models.BarlowTwins(adata)
    >>> model.train()
    >>> model.get_latent_representation().shape
    (700, 64)
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
        redundancy_weight: float = 5.1e-3,
        n_hidden: Sequence[int] = (256,),
        n_latent: int = 64,
        projector: Sequence[int] = (256, 256),
        norm: Literal["batch", "layer"] = "batch",
        weigh_genes: bool = True,
    ) -> None:
        super().__init__(adata, registry)
        check_weight("redundancy_weight", redundancy_weight)
        augmentations = augmentation_strengths(augmentations, {"gene_dropout": 0.5})
        programs = self._programs(programs)
        sizes: dict[str, Any] = {"n_hidden": n_hidden, "n_latent": n_latent, "projector": projector, "norm": norm}
        parts = self._parts(augmentations, programs, weigh_genes=weigh_genes, **sizes)
        self.module = BarlowTwinsModule(redundancy_weight=redundancy_weight, **parts)
        self.init_params_ = self._get_init_params(locals())
