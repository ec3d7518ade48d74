"""VICReg (Bardes, Ponce & LeCun 2022) for cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from sc_ssl._checks import check_weight
from sc_ssl.losses import vicreg

from .base import TrainingDefaults
from .two_views import TwoViewContrast, TwoViewModel, augmentation_strengths

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData


class VICRegModule(TwoViewContrast):
    """Two views of a cell are to be alike, each dimension to vary over cells, and no two dimensions to vary together."""

    def __init__(self, *, weights: dict[str, float], **parts: Any) -> None:
        super().__init__(**parts)
        self.weights = weights

    def contrast(self, views: list[Tensor]) -> dict[str, Tensor]:
        """Invariance, variance and covariance of the projected views."""
        view_1_nd, view_2_nd = (self.projector(view_nd) for view_nd in views)
        return {"vicreg": vicreg(view_1_nd, view_2_nd, **self.weights)}


class VICReg(TwoViewModel):
    """VICReg: an embedding that is alike in two views of a cell and keeps its variance; key ``X_vicreg``.

    Three terms: the distance of the two views, a hinge that keeps the standard deviation of each dimension at 1 or
    above, and the covariances of different dimensions. No cell is pushed away from another, and no collapse is possible
    where the second term holds; it is watched for all the same, as in :class:`BYOL`.

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
    invariance_weight, variance_weight, covariance_weight
        λ, μ and ν of the three terms, ≥ 0.
    n_hidden
        Widths of the encoder's hidden layers.
    n_latent
        Dimension of the embedding.
    projector
        Widths of the projector on the embedding, the last one its output.
    norm
        ``"batch"`` or ``"layer"`` norm in the encoder; the projector has batch norm. With ``"layer"``,
        ``train(batch_size=…, micro_batch_size=…)`` compares large minibatches in the memory of small ones.
    weigh_genes
        Multiply z-scores by :func:`~sc_ssl.data.gene_weights`; log-normalised input never is.

    Raises
    ------
    ValueError
        A weight below 0; augmentations, norms or widths that there are not.

    Notes
    -----
    The weights are the paper's. Views, sizes and learning rate are those that were chosen for :class:`BarlowTwins` on
    development data; none was chosen for this method.

    References
    ----------
    Bardes, Ponce & LeCun (2022), VICReg: Variance-invariance-covariance regularization for self-supervised learning,
    ICLR.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> sc_ssl.models.VICReg.setup_anndata(adata)
    >>> model = sc_ssl.models.VICReg(adata)
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
    module: VICRegModule

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        augmentations: Mapping[str, float] | None = None,
        programs: str | Path | Mapping[str, Sequence[str]] | pd.DataFrame | None = None,
        invariance_weight: float = 25.0,
        variance_weight: float = 25.0,
        covariance_weight: float = 1.0,
        n_hidden: Sequence[int] = (256,),
        n_latent: int = 64,
        projector: Sequence[int] = (256, 256),
        norm: Literal["batch", "layer"] = "batch",
        weigh_genes: bool = True,
    ) -> None:
        super().__init__(adata, registry)
        weights = {
            "invariance_weight": invariance_weight,
            "variance_weight": variance_weight,
            "covariance_weight": covariance_weight,
        }
        for name, weight in weights.items():
            check_weight(name, weight)
        augmentations = augmentation_strengths(augmentations, {"gene_dropout": 0.5})
        programs = self._programs(programs)
        sizes: dict[str, Any] = {"n_hidden": n_hidden, "n_latent": n_latent, "projector": projector, "norm": norm}
        parts = self._parts(augmentations, programs, weigh_genes=weigh_genes, **sizes)
        self.module = VICRegModule(weights=weights, **parts)
        self.init_params_ = self._get_init_params(locals())
