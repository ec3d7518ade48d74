"""contrastive-sc (Ciortan & Defrance 2021, BMC Bioinformatics 22:280)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Self

import torch.nn.functional as F
from anndata import AnnData
from torch import Tensor
from torch.optim.swa_utils import update_bn

from sc_ssl._checks import check_choice, check_positive, check_rate
from sc_ssl.losses import nt_xent
from sc_ssl.nn import MLP, LogNormalize
from sc_ssl.train import View
from sc_ssl.views import gene_dropout, gene_subset

from .base import ContrastModule, SSLModel, TrainingDefaults


class ContrastiveSCModule(ContrastModule):
    """Two views of a cell with most genes hidden are to be neighbours on the unit sphere, views of other cells not."""

    def __init__(
        self, *, normalize: LogNormalize, encoder: MLP, dropout_rate: float, dropout_per: str, temperature: float
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.encoder = encoder
        self.dropout_rate = dropout_rate
        self.dropout_per = dropout_per
        self.shares_noise = dropout_per == "minibatch"
        self.temperature = temperature

    def embed(self, cells: Mapping[str, Tensor]) -> Tensor:
        """Unit vectors (n, n_latent)."""
        return F.normalize(self.encoder(self.normalize(cells)), dim=1)

    def encode_view(self, cells: Mapping[str, Tensor]) -> View:
        """Hide genes and encode the rest."""
        x_ng = self.normalize(cells)
        if self.dropout_per == "cell":
            return View(self.encoder(gene_dropout(x_ng, self.dropout_rate)), {}, {})
        return View(self.encoder(*gene_subset(x_ng, self.dropout_rate)), {}, {})

    def contrast(self, views: list[Tensor]) -> dict[str, Tensor]:
        """NT-Xent between two views."""
        return {"nt_xent": nt_xent(*views, self.temperature)}

    def after_fit(self, minibatches: Iterable[Mapping[str, Tensor]]) -> None:
        """Re-estimate the batch-norm statistics on whole cells: those of training are of cells with most genes hidden."""
        # a last minibatch of one cell has no variance
        update_bn((self.normalize(cells) for cells in minibatches if len(cells["batch"]) > 1), self.encoder)


class ContrastiveSC(SSLModel):
    """contrastive-sc: contrastive learning with hidden genes, for clustering cells; key ``X_contrastive_sc``.

    The encoder learns to recognise a cell among all others when most of its genes are hidden. The unit vector that is
    contrasted is also the embedding: there is no projection head.

    Parameters
    ----------
    adata
        Cells registered with :meth:`setup_anndata`.
    registry
        Instead of ``adata``: the registry of a saved model.
    n_hidden
        Widths of the hidden layers.
    n_latent
        Dimension of the embedding.
    gene_dropout_rate
        Share of the genes that a view hides, in [0, 1).
    dropout_per
        ``"minibatch"``: the same genes are hidden in all cells of a view, which makes the first layer five times
        cheaper; ``"cell"``: drawn for each cell, as published.
    temperature
        τ of NT-Xent, > 0.
    norm
        ``"batch"`` or ``"layer"`` norm in the encoder.
    weigh_genes
        Multiply z-scores by :func:`~sc_ssl.data.gene_weights`; log-normalised input never is.

    Notes
    -----
    Differences from the authors' code, chosen in short runs on development data, where they were better or faster.
    :meth:`paper` gives the published settings.

    * Hidden genes: 90 %, drawn for each cell there; here 80 %, the same ones in a whole minibatch.
    * Temperature: 0.07 there; here 1.
    * Optimiser: Adam at a rate of 0.4 there; here AdamW with a cosine schedule.
    * Batch norm: statistics of training there; here re-estimated on whole cells after training.

    References
    ----------
    Ciortan & Defrance (2021), Contrastive self-supervised clustering of scRNA-seq data, BMC Bioinformatics 22:280.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> sc_ssl.models.ContrastiveSC.setup_anndata(adata)
    >>> model = sc_ssl.models.ContrastiveSC(adata)
    >>> model.train()
    >>> model.get_latent_representation().shape
    (700, 64)
    """

    training = TrainingDefaults(
        max_epochs=30,
        batch_size=256,
        min_steps=400,
        plan={"lr": 1e-2, "weight_decay": 1e-4, "betas": (0.9, 0.99), "warmup_rate": 0.05},
    )

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        n_hidden: Sequence[int] = (256, 64),
        n_latent: int = 64,
        gene_dropout_rate: float = 0.8,
        dropout_per: Literal["minibatch", "cell"] = "minibatch",
        temperature: float = 1.0,
        norm: Literal["batch", "layer"] = "batch",
        weigh_genes: bool = True,
    ) -> None:
        super().__init__(adata, registry)
        check_choice("dropout_per", dropout_per, ("minibatch", "cell"))
        check_rate("gene_dropout_rate", gene_dropout_rate)
        check_positive("temperature", temperature)
        self.module = ContrastiveSCModule(
            normalize=self._normalizer(weigh_genes=weigh_genes),
            encoder=MLP(len(self.var_names), n_hidden, n_latent, norm=norm),
            dropout_rate=gene_dropout_rate,
            dropout_per=dropout_per,
            temperature=temperature,
        )
        self.init_params_ = self._get_init_params(locals())

    @classmethod
    def paper(cls, adata: AnnData) -> Self:
        """The settings of the authors' code: Adam at 0.4, temperature 0.07, hidden 200 and 40, 30 epochs of 200 cells."""
        sizes: dict[str, Any] = {"n_hidden": (200, 40), "n_latent": 60, "gene_dropout_rate": 0.9}
        model = cls(adata, **sizes, dropout_per="cell", temperature=0.07, weigh_genes=False)
        model.training = TrainingDefaults(max_epochs=30, batch_size=200, plan={"lr": 0.4, "schedule": "constant"})
        return model
