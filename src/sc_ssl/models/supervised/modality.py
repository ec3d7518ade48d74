"""From RNA to another modality, such as the surface proteins of CITE-seq, on any encoder of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from sc_ssl.data import obsm_values, positions
from sc_ssl.losses import scored_weight, squared_error
from sc_ssl.models.base import Phase, TrainingDefaults
from sc_ssl.nn import MLP

from .encoder import OnEncoder, OnEncoderModule, latent_width, mean_and_sd, specification_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from anndata import AnnData

    from sc_ssl.models.base import SSLModel, SSLModule


class ModalityRegressorModule(OnEncoderModule):
    """Predict the z-scored values of a cell's other modality from its embedding."""

    mean_f: Tensor
    sd_f: Tensor

    def __init__(self, *, encoder: SSLModule, head: nn.Module, n_features: int, freeze_encoder: bool) -> None:
        super().__init__(encoder=encoder, freeze_encoder=freeze_encoder)
        self.head = head
        self.register_buffer("mean_f", torch.zeros(n_features))
        self.register_buffer("sd_f", torch.ones(n_features))

    def predict(self, cells: Mapping[str, Tensor]) -> Tensor:
        """Values in the units of the training cells, (n, f)."""
        return self.head(self.embed(cells)) * self.sd_f + self.mean_f

    def loss_terms(self, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Squared error of z-scores, over what was measured."""
        target_nf = (cells["modality"] - self.mean_f) / self.sd_f
        measured_nf = ~target_nf.isnan()
        predicted_nf = self.head(self.embed(cells))
        return {"mse": squared_error(predicted_nf, target_nf.nan_to_num(), scored_weight(measured_nf))}


class ModalityRegressor(OnEncoder):
    """Predict proteins, or any values that were measured beside RNA, from RNA.

    A head on the embedding of a pretrained model, which is trained further with it or kept frozen; or the same network
    from scratch. Richter et al. (2024) give both the decoder of their autoencoder; here a small head reads the
    embedding, of any method. :func:`sc_ssl.tl.predict_modality` does it in one call,
    :func:`sc_ssl.metrics.pearson` scores it.

    Parameters
    ----------
    adata
        Cells registered with :meth:`setup_anndata`, with at least half of the encoder's genes where there is one.
    registry
        Instead of ``adata``: the registry of a saved model.
    protein_key
        Name in ``obsm`` of what is to be predicted, (n_obs, f), a DataFrame or array; best log-normalised or CLR, since
        the error is squared. NaN where it was not measured.
    protein_names
        Names of the f columns; by default those of the DataFrame, or ``<protein_key>_0``, ….
    encoder
        A model of this package, which stays as it is: its encoder is copied. ``None`` starts from scratch.
    freeze_encoder
        Train the head alone: better with some thousand cells on an encoder that has seen them, worse with some hundred.
    n_hidden, n_latent
        Widths of the encoder's hidden layers and of its embedding, from scratch.
    head
        Widths of the head's hidden layers.
    dropout_rate
        Of the head's hidden units while training, in [0, 1).
    norm
        ``"layer"`` or ``"batch"`` norm in the hidden layers.

    References
    ----------
    Richter et al. (2024), Delineating the effective use of self-supervised learning in single-cell genomics, Nature
    Machine Intelligence 7:68.

    Examples
    --------
    >>> import numpy as np
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> adata.obsm["protein"] = np.log1p(adata[:, ["CD3D", "LYZ"]].X.toarray())  # stand in for proteins
    >>> sc_ssl.models.ModalityRegressor.setup_anndata(adata)
    >>> model = sc_ssl.models.ModalityRegressor(adata)
    >>> model.train()
    >>> model.get_prediction(adata[:3].copy()).shape
    (3, 2)
    """

    training = TrainingDefaults(
        max_epochs=60,
        batch_size=256,
        min_steps=400,
        plan={"lr": 1e-3, "weight_decay": 0.01, "warmup_rate": 0.05},
        gradient_clip_val=1.0,
    )
    module: ModalityRegressorModule

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        protein_key: str = "protein",
        protein_names: Sequence[str] | None = None,
        encoder: SSLModel | dict[str, Any] | None = None,
        freeze_encoder: bool = False,
        n_hidden: Sequence[int] = (512, 256),
        n_latent: int = 64,
        head: Sequence[int] = (128,),
        dropout_rate: float = 0.1,
        norm: Literal["layer", "batch"] = "layer",
    ) -> None:
        super().__init__(adata, registry)
        values = None if adata is None else obsm_values(adata, protein_key, protein_names)
        protein_names = list(protein_names or ()) if values is None else list(values.columns)
        n_genes = len(self.var_names)
        source = self._encoder(
            encoder, lambda: MLP(n_genes, n_hidden, n_latent, norm=norm), freeze_encoder=freeze_encoder
        )
        encoder = specification_of(encoder)
        width = latent_width(source)
        self.module = ModalityRegressorModule(
            encoder=source,
            # embeddings differ in scale between methods
            head=nn.Sequential(
                nn.BatchNorm1d(width, affine=False),
                MLP(width, head, len(protein_names), norm=norm, dropout_rate=dropout_rate),
            ),
            n_features=len(protein_names),
            freeze_encoder=freeze_encoder,
        )
        if values is not None:
            mean_f, sd_f = mean_and_sd(values)
            self.module.mean_f.copy_(mean_f)
            self.module.sd_f.copy_(sd_f)
        self.protein_names = protein_names
        self.protein_key = protein_key
        self.init_params_ = self._get_init_params(locals())

    def get_prediction(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        batch_size: int | None = None,
    ) -> pd.DataFrame:
        """Predict the other modality of cells from their RNA.

        Parameters
        ----------
        adata, indices, batch_size
            Cells, as in :meth:`get_latent_representation`; the other modality is not needed.

        Returns
        -------
        Cells × proteins, in the units of the training cells.
        """
        self._check_if_trained(warn=False)
        values = self._map_cells(self.module.predict, adata, indices, batch_size)
        names = (self.adata if adata is None else adata).obs_names
        return pd.DataFrame(values, index=names[positions(len(names), indices)], columns=self.protein_names)

    def phases(self, max_epochs: int | None = None) -> Iterator[Phase]:
        """One, on the cells with what is to be predicted beside them."""
        cells = self._own_cells()  # its error comes first
        values = obsm_values(self.adata, self.protein_key, self.protein_names).to_numpy(np.float32, copy=True)
        yield Phase(self.module, cells.beside(modality=values), self.training, max_epochs)
