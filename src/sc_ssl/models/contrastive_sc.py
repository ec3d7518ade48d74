"""contrastive-sc (Ciortan & Defrance 2021, BMC Bioinformatics 22:280)."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from anndata import AnnData
from torch import Tensor

from sc_ssl.losses import nt_xent
from sc_ssl.nn import MLP, LogNormalize
from sc_ssl.views import gene_dropout

from ._base import SSLModel, TrainingDefaults
from ._module import SSLModule


class ContrastiveSCModule(SSLModule):
    """Two gene-dropout views of a cell shall be neighbours on the unit sphere, other cells shall not."""

    def __init__(self, *, normalize: LogNormalize, encoder: MLP, dropout_rate: float, temperature: float) -> None:
        super().__init__()
        self.normalize = normalize
        self.encoder = encoder
        self.dropout_rate = dropout_rate
        self.temperature = temperature

    def embed(self, cells: dict[str, Tensor]) -> Tensor:
        """Unit vectors (n, n_latent)."""
        return F.normalize(self.encoder(self.normalize(cells)), dim=1)

    def ssl_loss(self, cells: dict[str, Tensor]) -> dict[str, Tensor]:
        """NT-Xent between the two views."""
        x_ng = self.normalize(cells)
        view_1, view_2 = (self.encoder(gene_dropout(x_ng, self.dropout_rate)) for _ in range(2))
        return {"nt_xent": nt_xent(view_1, view_2, self.temperature)}


class ContrastiveSC(SSLModel):
    """contrastive-sc: an encoder that tells cells apart when most of their genes are hidden; key ``X_contrastive_sc``.

    The unit vector that is contrasted is also the embedding: there is no projection head. Departs from the authors'
    code in z-scores clipped at 10 and in the optimiser: AdamW with a cosine schedule in place of Adam at 0.4.

    Parameters
    ----------
    adata
        Cells registered with :meth:`setup_anndata`.
    n_hidden
        Widths of the hidden layers.
    n_latent
        Dimension of the embedding.
    gene_dropout_rate
        Probability that a view hides a gene, in [0, 1).
    temperature
        τ of NT-Xent, > 0.
    norm
        ``"batch"`` or ``"layer"`` norm in the encoder.
    clip
        Largest absolute z-score of the input.

    References
    ----------
    Ciortan & Defrance (2021), Contrastive self-supervised clustering of scRNA-seq data, BMC Bioinformatics 22:280.
    """

    training = TrainingDefaults(max_epochs=100, batch_size=256, plan={"lr": 1e-3})

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        n_hidden: Sequence[int] = (200, 40),
        n_latent: int = 60,
        gene_dropout_rate: float = 0.9,
        temperature: float = 0.07,
        norm: str = "batch",
        clip: float = 10.0,
    ) -> None:
        super().__init__(adata, registry)
        self.module = ContrastiveSCModule(
            normalize=self._normalizer(clip=clip),
            encoder=MLP(len(self.var_names), n_hidden, n_latent, norm=norm),
            dropout_rate=gene_dropout_rate,
            temperature=temperature,
        )
        self.init_params_ = self._get_init_params(locals())
