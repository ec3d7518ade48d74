"""mask-sc: masked modelling of gene-expression matrices with features of a frozen contrastive encoder as targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_ssl._logging import logger
from sc_ssl.data import Cells, nearest_cells, smooth
from sc_ssl.losses import squared_error
from sc_ssl.nn import BottleneckDecoder, ConvPatchEmbed, LocalPatchEmbed, LogNormalize, MaskedDecoder, Transformer
from sc_ssl.views import random_mask, to_patches

from ._base import SSLModel
from ._layout import GeneOrder, cross_context, gene_patches
from ._module import SSLModule
from ._teachers import FrozenTeachers
from ._training import TrainingDefaults, fit
from .contrastive_sc import ContrastiveSC, ContrastiveSCModule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

#: the published settings; batch 256 and 1,600 epochs of AdamW stand in :meth:`MaskSC.paper`
PAPER: dict[str, Any] = {
    "n_hidden": 768,
    "n_layers": 12,
    "n_heads": 12,
    "mlp_ratio": 4.0,
    "n_scored": None,
    "patch_size": 16,
    "gene_order": "square",
    "patch_embed": "conv",
    "decoder_kwargs": {"width": 512, "n_layers": 8, "n_heads": 16},
    "target": "cross",
    "readout": "mean",
    "teacher": 1,
    "n_neighbors": 0,
}


class MaskSCModule(SSLModule):
    """Encode the visible patches of a cell; predict what frozen encoders say at the hidden ones."""

    patch_genes_tp: Tensor

    def __init__(
        self,
        *,
        normalize: LogNormalize,
        teachers: FrozenTeachers,
        patch_genes_tp: Tensor,
        patch_embed: LocalPatchEmbed | ConvPatchEmbed,
        encoder: Transformer,
        decoder: MaskedDecoder | BottleneckDecoder,
        target: str,
        readout: str,
        mask_rate: float,
        n_scored: int | None,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.teachers = teachers
        self.patch_embed = patch_embed
        self.encoder = encoder
        self.decoder = decoder
        self.target, self.readout, self.mask_rate, self.n_scored = target, readout, mask_rate, n_scored
        width = encoder.norm.normalized_shape[0]
        self.cls_token = nn.Parameter(torch.randn(width) * 0.02)
        self.position = nn.Parameter(torch.randn(len(patch_genes_tp), width) * 0.02)
        self.register_buffer("patch_genes_tp", patch_genes_tp)

    def embed(self, cells: dict[str, Tensor]) -> Tensor:
        """The read-out with every patch visible, (n, d)."""
        encoded = self.encoder(self.tokens(self.patches(cells)))
        if self.readout == "cls":
            return encoded[:, 0]
        if self.readout == "mean":
            return encoded[:, 1:].mean(dim=1)
        every_nt = torch.arange(len(self.position), device=encoded.device).expand(len(encoded), -1)
        return F.normalize(self.decoder(encoded, every_nt, every_nt).mean(dim=1), dim=1)

    def ssl_loss(self, cells: dict[str, Tensor]) -> dict[str, Tensor]:
        """Squared error between predicted and teachers' features at the hidden patches."""
        patch_ntp = self.patches(cells)
        visible_nv, hidden_nm = random_mask(*patch_ntp.shape[:2], self.mask_rate, patch_ntp.device)
        encoded = self.encoder(self.tokens(patch_ntp, visible_nv))
        scored_nm = hidden_nm[:, : self.n_scored]
        predicted = self.decoder(encoded, visible_nv, scored_nm)
        return {"masked_features": squared_error(predicted, self.targets(cells, patch_ntp, scored_nm))}

    def patches(self, cells: dict[str, Tensor]) -> Tensor:
        """The cell as patches of z-scored genes, (n, t, p)."""
        return to_patches(self.normalize(cells), self.patch_genes_tp)

    def tokens(self, patch_ntp: Tensor, visible_nv: Tensor | None = None) -> Tensor:
        """The global token and one for each visible patch, with their positions, (n, 1 + v, d)."""
        token_ntd = self.patch_embed(patch_ntp) + self.position
        if visible_nv is not None:
            token_ntd = _take(token_ntd, visible_nv)
        return torch.cat([self.cls_token.expand(len(token_ntd), 1, -1), token_ntd], dim=1)

    @torch.no_grad()
    def targets(self, cells: dict[str, Tensor], patch_ntp: Tensor, hidden_nm: Tensor) -> Tensor:
        """What is to be predicted at each hidden patch, (n, m, features)."""
        if self.target == "raw":
            return _take(patch_ntp, hidden_nm)
        if self.target == "global":
            return cells["target"][:, None].expand(-1, hidden_nm.shape[1], -1)
        return _take(self.teachers.of_patches(patch_ntp), hidden_nm)


class MaskSC(SSLModel):
    """mask-sc: from a quarter of a cell's patches of genes, predict what a frozen encoder says; key ``X_masksc``.

    A transformer encodes the visible patches, and a light decoder regresses the features that contrastive encoders give
    the cell at the hidden ones. These encoders (:class:`ContrastiveSC`) are trained first unless one is given.

    Departs from the paper, whose settings :meth:`paper` gives: four teachers with different seeds; their features
    averaged over each cell's neighbours, so that a noisy cell has a clean target; a decoder through a bottleneck; and
    the predicted features as embedding instead of the mean token. Short runs on development data, mostly with one seed
    each, pointed there; the benchmarks say what is shown. A weight matrix for each patch instead of one convolution for
    all was clearly better in a pilot on PBMC 4k.

    Parameters
    ----------
    adata
        Cells registered with :meth:`setup_anndata`, most variable genes first.
    registry
        Instead of ``adata``: the registry of a saved model.
    teacher
        A trained contrastive model over the same genes, or how many to train.
    teacher_kwargs
        Arguments of :class:`ContrastiveSC` for teachers that are trained here.
    n_neighbors
        Neighbours over which a ``"global"`` target is averaged, twice; 0 for the bare features.
    target
        What is predicted at a hidden patch: ``"global"``, the teachers' features of the whole cell; ``"cross"``, of
        the patches in the same row and column; ``"patch"``, of the patch alone; ``"raw"``, its z-scored genes.
    mask_rate
        Share of the patches that are hidden, in (0, 1).
    n_scored
        How many of a cell's hidden patches the loss scores each time, drawn anew; ``None`` scores all (paper).
    patch_size
        Genes a patch p; by default 8 × 8, a smaller square when that would make under 32 patches.
    gene_order
        Which genes share a patch: ``"interleaved"``, dealt out in turn; ``"given"``, consecutive ones; ``"square"``,
        squares of the paper's matrix; ``"coexpression"``, co-expressed ones; ``"random"``.
    patch_embed
        ``"local"``: a weight matrix for each patch; ``"conv"``: one for all, the paper's convolution.
    n_hidden, n_layers, n_heads, mlp_ratio
        Width, blocks and heads of the encoder, and how much wider than ``n_hidden`` its MLPs are.
    n_latent
        Width of the bottleneck between encoder and decoder.
    decoder_kwargs
        ``width``, ``n_layers`` and ``n_heads`` of a transformer as decoder, the paper's, without bottleneck.
    readout
        The embedding: ``"prediction"``, the unit vector of the features predicted from all patches; ``"mean"``, the
        mean of the encoded patches (paper); ``"cls"``, the global token.

    References
    ----------
    mask-sc: masked modelling of gene-expression matrices for clustering (the paper gives no normalisation, gene
    selection or positions; those here are contrastive-sc's and the masked autoencoder's, He et al. 2022).
    """

    training = TrainingDefaults(
        max_epochs=40,
        batch_size=128,
        min_steps=400,
        plan={"lr": 2e-3, "weight_decay": 0.05, "betas": (0.9, 0.95), "warmup_rate": 0.1},
        gradient_clip_val=1.0,
    )
    module: MaskSCModule

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        teacher: ContrastiveSC | int = 4,
        teacher_kwargs: dict[str, Any] | None = None,
        n_neighbors: int = 15,
        target: Literal["global", "cross", "patch", "raw"] = "global",
        mask_rate: float = 0.75,
        n_scored: int | None = 8,
        patch_size: int | None = None,
        gene_order: GeneOrder = "interleaved",
        patch_embed: Literal["local", "conv"] = "local",
        n_hidden: int = 64,
        n_layers: int = 2,
        n_heads: int = 4,
        mlp_ratio: float = 2.0,
        n_latent: int = 32,
        decoder_kwargs: dict[str, int] | None = None,
        readout: Literal["prediction", "mean", "cls"] = "prediction",
    ) -> None:
        super().__init__(adata, registry)
        _check_choice("target", target, ("global", "cross", "patch", "raw"))
        _check_choice("patch_embed", patch_embed, ("local", "conv"))
        _check_choice("readout", readout, ("prediction", "mean", "cls"))
        if isinstance(teacher, int) and teacher < 1:
            raise ValueError(f"at least one teacher is needed, found teacher={teacher}.")
        given = teacher if isinstance(teacher, ContrastiveSC) else None
        if given is not None:
            self._check_teacher(given)
            teacher, teacher_kwargs = 1, given.plain_init_params()
        n_genes = len(self.var_names)
        patch_size = patch_size or int(max(min(64, n_genes / 32), 1) ** 0.5) ** 2
        patch_genes_tp = gene_patches(n_genes, patch_size, gene_order, self._cells)
        n_patches = len(patch_genes_tp)
        if n_patches < 2:
            raise ValueError(
                f"{n_genes} genes make {n_patches} patch of {patch_size}; masking needs 2: lower patch_size."
            )
        context = {"cross": cross_context(n_patches), "patch": torch.eye(n_patches, dtype=torch.bool)}.get(target)
        normalize = self._normalizer()
        encoders = self._build_encoders(normalize, given, teacher, teacher_kwargs or {})
        teachers = FrozenTeachers(encoders, patch_genes_tp, context, n_trained=int(given is not None))
        n_output = patch_size if target == "raw" else teachers.n_features
        embed_class = LocalPatchEmbed if patch_embed == "local" else ConvPatchEmbed
        self.module = MaskSCModule(
            normalize=normalize,
            teachers=teachers,
            patch_genes_tp=patch_genes_tp,
            patch_embed=embed_class(n_patches, patch_size, n_hidden),
            encoder=Transformer(n_hidden, n_layers, n_heads, mlp_ratio),
            decoder=BottleneckDecoder(n_patches, n_hidden, n_latent=n_latent, width=n_hidden, n_output=n_output)
            if decoder_kwargs is None
            else MaskedDecoder(n_patches, n_hidden, n_output=n_output, **decoder_kwargs),
            target=target,
            readout=readout,
            mask_rate=mask_rate,
            n_scored=n_scored,
        )
        self.n_neighbors = n_neighbors
        self.init_params_ = self._get_init_params(locals())

    @classmethod
    def paper(cls, adata: AnnData) -> Self:
        """The published settings: 4 × 4 patches, 12 + 8 blocks of 768 and 512, 75 % hidden, 1,600 epochs of AdamW 1e-4.

        The paper's matrix is 64 × 64: register the 4,096 most variable genes. For a GPU: on 4,271 cells about half an
        hour on a fast one, weeks on a CPU.
        """
        model = cls(adata, **PAPER)
        model.training = TrainingDefaults(
            max_epochs=1600,
            batch_size=256,
            plan={"lr": 1e-4, "weight_decay": 0.05, "betas": (0.9, 0.95), "warmup_rate": 0.025},
        )
        return model

    def get_attention(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        *,
        of: Literal["received", "cls"] = "received",
    ) -> pd.DataFrame:
        """Attention of the encoder's last block to each patch, mean over heads, every patch visible (paper, Figure 6).

        Parameters
        ----------
        adata, indices
            Cells, as in :meth:`get_latent_representation`.
        of
            ``"received"``: mean over the attending tokens; ``"cls"``: of the global token, which carries no loss.

        Returns
        -------
        Cells × patches, columns ``patch_0``, …; see :meth:`get_patch_genes`. Rows sum to at most 1: the rest goes to
        the global token.
        """
        _check_choice("of", of, ("received", "cls"))
        self._check_if_trained(warn=False)

        def attention(cells: dict[str, Tensor]) -> Tensor:
            weights_nqk = self.module.encoder.attention(self.module.tokens(self.module.patches(cells)))
            return (weights_nqk[:, 0] if of == "cls" else weights_nqk.mean(dim=1))[:, 1:]

        values = self._map_cells(attention, adata, indices)
        names = (self.adata if adata is None else adata).obs_names
        return pd.DataFrame(
            values,
            index=names if indices is None else names[np.asarray(indices)],
            columns=[f"patch_{i}" for i in range(values.shape[1])],
        )

    def get_patch_genes(self) -> pd.DataFrame:
        """The genes of each patch: patches × slots, empty where the last patches have no gene left."""
        patch_genes_tp = self.module.patch_genes_tp.cpu().numpy()
        names = np.asarray([*self.var_names, ""], dtype=object)[patch_genes_tp]
        return pd.DataFrame(names, index=[f"patch_{i}" for i in range(len(names))])

    def get_expression_matrix(
        self, adata: AnnData | None = None, indices: Sequence[int] | np.ndarray | None = None
    ) -> np.ndarray:
        """What the encoder sees, as the paper's matrix: z-scored expression, (n, rows, columns).

        Patches of :attr:`patch_shape` stand row by row in a matrix that is as square as can be; slots without a gene
        are 0. :func:`sc_ssl.pl.attention` draws it.
        """
        patch_ntp = self._map_cells(self.module.patches, adata, indices)
        n, t, _ = patch_ntp.shape
        height, width = self.patch_shape
        n_across = int(np.ceil(t**0.5))
        n_down = -(-t // n_across)
        grid = np.zeros((n, n_down * n_across, height, width), np.float32)
        grid[:, :t] = patch_ntp.reshape(n, t, height, width)
        return grid.reshape(n, n_down, n_across, height, width).swapaxes(2, 3).reshape(n, n_down * height, -1)

    @property
    def patch_shape(self) -> tuple[int, int]:
        """Rows and columns of a patch in the expression matrix."""
        patch_size = self.module.patch_genes_tp.shape[1]
        height = max(h for h in range(1, int(patch_size**0.5) + 1) if patch_size % h == 0)
        return height, patch_size // height

    def _training_cells(self, **fit_options: Any) -> Cells:
        """Train the teachers that are not trained yet, then put what they say beside each cell."""
        cells, teachers = self._own_cells(), self.module.teachers
        max_epochs = fit_options.pop("max_epochs")
        n_needed = 0 if self.module.target == "raw" else len(teachers.encoders)
        for i in range(int(teachers.n_trained), n_needed):
            logger.info("Training contrastive teacher %d of %d.", i + 1, len(teachers.encoders))
            with teachers.unfrozen(i) as encoder:
                epochs = ContrastiveSC.training.epochs(cells.n_cells, ContrastiveSC.training.batch_size)
                options = fit_options | {"max_epochs": min(epochs, max_epochs or epochs)}
                fit(self, encoder, ContrastiveSC.training, cells=cells, prefix=f"teacher_{i + 1}_", **options)
            teachers.n_trained += 1
        if self.module.target == "global":
            logger.info("Training the masked model.")
            return cells.beside(target=self._neighbourhood_features(cells))
        if self.module.target != "raw":
            with torch.no_grad():
                teachers.fit_scale(self.module.patches(minibatch) for minibatch in self._loader(cells))
        return cells

    @torch.no_grad()
    def _neighbourhood_features(self, cells: Cells) -> np.ndarray:
        """The teachers' features of each cell, averaged over its neighbours' neighbours, standardised; (n, features)."""
        of_cells = self.module.teachers.of_cells
        features = torch.cat([of_cells(minibatch).cpu() for minibatch in self._loader(cells)]).numpy()
        if self.n_neighbors:
            features = smooth(features, nearest_cells(features, self.n_neighbors), n_steps=2)
        features = features - features.mean(axis=0)
        return (features / np.maximum(features.std(axis=0), 1e-6)).astype(np.float32)

    def _check_teacher(self, teacher: ContrastiveSC) -> None:
        if not teacher.is_trained_:
            raise ValueError("the teacher must be trained; call its train() first.")
        genes = self.var_names
        if teacher.var_names != genes:
            raise ValueError(
                f"the teacher must know the model's {len(genes)} genes in the same order, found "
                f"{len(teacher.var_names)} genes of its own; set both up with the same AnnData."
            )
        theirs = teacher.summary_stats.n_batch, teacher.setup_arguments["input"]
        ours = self.summary_stats.n_batch, self.setup_arguments["input"]
        if theirs != ours:
            raise ValueError(f"the teacher must have the model's number of batches and input {ours}, found {theirs}.")

    def _build_encoders(
        self, normalize: LogNormalize, given: ContrastiveSC | None, n: int, teacher_kwargs: dict[str, Any]
    ) -> list[ContrastiveSCModule]:
        """Contrastive modules over this model's genes; a given one is copied."""
        encoders = []
        for _ in range(n):
            encoder = ContrastiveSC(None, registry=self.registry_, **teacher_kwargs).module
            encoder.load_state_dict(normalize.state_dict(prefix="normalize."), strict=False)
            if given is not None:
                encoder.load_state_dict(given.module.state_dict())
            encoders.append(encoder)
        return encoders


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is one of {', '.join(map(repr, choices))}, found {value!r}.")


def _take(token_ntd: Tensor, position_nm: Tensor) -> Tensor:
    """The tokens of each cell at these positions, (n, m, d)."""
    return token_ntd.gather(1, position_nm[..., None].expand(-1, -1, token_ntd.shape[2]))
