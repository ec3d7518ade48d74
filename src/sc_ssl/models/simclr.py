"""SimCLR (Chen, Kornblith, Norouzi & Hinton 2020) for cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from sc_ssl._checks import check_positive
from sc_ssl.losses import nt_xent

from .base import TrainingDefaults
from .two_views import TwoViewContrast, TwoViewModel, augmentation_strengths

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData


class SimCLRModule(TwoViewContrast):
    """Two views of a cell are to be nearer to each other than to the views of all other cells, where they are projected."""

    def __init__(self, *, temperature: float, **parts: Any) -> None:
        super().__init__(**parts)
        self.temperature = temperature

    def contrast(self, views: list[Tensor]) -> dict[str, Tensor]:
        """NT-Xent of the projected views."""
        view_1_nd, view_2_nd = (self.projector(view_nd) for view_nd in views)
        return {"nt_xent": nt_xent(view_1_nd, view_2_nd, self.temperature)}


class SimCLR(TwoViewModel):
    """SimCLR: contrastive learning of two views of a cell against all other cells; key ``X_simclr``.

    The embedding is the encoder's output; the contrast acts on a projection of it, so that the embedding may keep what
    the views change. :class:`ContrastiveSC` contrasts the embedding itself.

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
    temperature
        τ of NT-Xent, > 0.
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
        A temperature of 0 or below; augmentations, norms or widths that there are not.

    Notes
    -----
    The temperature is the paper's for its small images (its appendix B.9), the projector one hidden layer to 128
    dimensions, as there. Views, sizes and learning rate are those that were chosen for :class:`BarlowTwins` on
    development data; none was chosen for this method.

    References
    ----------
    Chen, Kornblith, Norouzi & Hinton (2020), A simple framework for contrastive learning of visual representations,
    ICML.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> sc_ssl.models.SimCLR.setup_anndata(adata)
    >>> model = sc_ssl.models.SimCLR(adata)
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
    module: SimCLRModule

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        augmentations: Mapping[str, float] | None = None,
        programs: str | Path | Mapping[str, Sequence[str]] | pd.DataFrame | None = None,
        temperature: float = 0.5,
        n_hidden: Sequence[int] = (256,),
        n_latent: int = 64,
        projector: Sequence[int] = (256, 128),
        norm: Literal["batch", "layer"] = "batch",
        weigh_genes: bool = True,
    ) -> None:
        super().__init__(adata, registry)
        check_positive("temperature", temperature)
        augmentations = augmentation_strengths(augmentations, {"gene_dropout": 0.5})
        programs = self._programs(programs)
        sizes: dict[str, Any] = {"n_hidden": n_hidden, "n_latent": n_latent, "projector": projector, "norm": norm}
        parts = self._parts(augmentations, programs, weigh_genes=weigh_genes, **sizes)
        self.module = SimCLRModule(temperature=temperature, **parts)
        self.init_params_ = self._get_init_params(locals())
