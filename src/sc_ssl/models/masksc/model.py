"""mask-sc: masked modelling of gene-expression matrices with features of a frozen encoder as targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sc_ssl import _compat
from sc_ssl._checks import check_choice, check_rate, with_defaults
from sc_ssl._logging import logger
from sc_ssl.data import harmonize, positions, warn_of_separate
from sc_ssl.models.base import Phase, SSLModel, TrainingDefaults
from sc_ssl.models.contrastive_sc import ContrastiveSC
from sc_ssl.nn import Transformer

from .decoders import build_decoder, decoder_settings
from .module import MaskSCModule
from .patches import build_patch_embed, gene_patches, patch_settings, to_patches
from .targets import (
    MAX_CELLS,
    OF_THE_GRAPH,
    FrozenComponents,
    FrozenTeacher,
    Target,
    build_frozen,
    check_n_latent,
    check_teacher,
    graph_dimensions,
    graph_position,
    teacher_phase,
    teacher_settings,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from anndata import AnnData

    from sc_ssl.data import Cells


Readout = Literal["prediction", "mean", "cls"]
#: the defaults of ``transformer=``
TRANSFORMER = {"n_layers": 2, "n_heads": 4, "mlp_ratio": 2.0}
#: the published settings; batch 256 and 1,600 epochs of AdamW stand in :meth:`MaskSC.paper`
PAPER: dict[str, Any] = {
    "target": "cross",
    "weigh_genes": False,
    "patches": {"size": 16, "order": "square", "embed": "conv"},
    "n_hidden": 768,
    "transformer": {"n_layers": 12, "n_heads": 12, "mlp_ratio": 4.0},
    "decoder": {"width": 512, "n_layers": 8, "n_heads": 16},
    "readout": "mean",
}
#: the neighbour graph and the training take evenly spread cells above this number
MAX_GRAPH_CELLS = 50_000


class MaskSC(SSLModel):
    """mask-sc: masked modelling of gene-expression matrices, for embedding and clustering cells; key ``X_masksc``.

    A transformer encodes a quarter of a cell's patches of genes, and a light decoder predicts, at the hidden ones, the
    features that a frozen encoder gives the cell. These are by default the cell's place in its neighbour graph and its
    principal components.

    Parameters
    ----------
    adata
        Cells registered with :meth:`setup_anndata`, most variable genes first.
    registry
        Instead of ``adata``: the registry of a saved model.
    n_latent
        Dimension of the embedding; by default 70 for the default target: 50 of the place and 20 components, and in this
        proportion for other numbers. Of ``"diffusion"`` and ``"components"`` it is theirs, 50 and ``n_components``. With
        other targets and readouts the embedding has the dimension of what is read out: the teacher's features, a
        patch's genes, or ``n_hidden``.
    target
        The features that are predicted at a hidden patch: ``"diffusion"``, the cell's place in its neighbour graph,
        which is found by principal components; ``"components"``, these themselves; ``"diffusion+components"``, the
        place and, at half its length, the leading components; ``"global"``, a contrastive teacher's features of the
        whole cell; ``"cross"``, of the patches in the same row and column (paper); ``"patch"``, of the patch alone;
        ``"raw"``, the patch's z-scored genes.
    n_components
        Number of principal components.
    n_neighbors
        Neighbours of a cell in the graph; by default 30, fewer (at least 5) below 1,500 cells.
    teacher
        For the targets that need one: a trained :class:`ContrastiveSC` over the same genes, or the arguments of one
        that is trained here; ``None`` trains one with its defaults.
    mask_rate
        Share of the patches that are hidden, in [0, 1); with 0 none is, and all are scored: masking left out.
    weigh_genes
        Multiply z-scores by :func:`~sc_ssl.data.gene_weights`; log-normalised input never is.
    patches
        Settings of the patches that differ from the defaults. ``size``: genes a patch p, by default 8 × 8, a smaller
        square when that would make under 32 patches. ``order``, which genes share a patch: ``"interleaved"``, dealt out
        in turn (default); ``"given"``, consecutive ones; ``"square"``, squares of the paper's matrix; ``"coexpression"``,
        co-expressed ones; ``"random"``. ``embed``: ``"local"``, a weight matrix for each patch (default); ``"conv"``,
        one for all, the paper's convolution.
    n_hidden
        Width of the encoder's tokens.
    transformer
        Settings of the encoder that differ from the defaults: ``n_layers`` (2) blocks of ``n_heads`` (4) heads, and
        ``mlp_ratio`` (2), the width of their MLPs over ``n_hidden``; as of :class:`~sc_ssl.nn.Transformer`.
    decoder
        Settings of the decoder: ``n_bottleneck`` (32), the width of the bottleneck between encoder and decoder; or
        ``width`` (512), ``n_layers`` (8) and ``n_heads`` (16) of a transformer without bottleneck, the paper's.
    readout
        The embedding: ``"prediction"``, the features predicted from all patches; ``"mean"``, the mean of the
        encoded patches (paper); ``"cls"``, the global token.

    Raises
    ------
    ValueError
        An unknown setting; a value out of its range; fewer than two patches; a teacher that the target does not need,
        that is not trained, or that has other genes, batches or input.

    Notes
    -----
    Differences from the paper, whose settings :meth:`paper` gives. Unless noted otherwise they were chosen on
    development data; the benchmarks have the comparisons.

    * Target: features of a trained contrastive encoder there, which clustered worse on most development data. Here the
      limit that contrastive learning with neighbouring cells as positives converges to, the leading eigenvectors of a
      random walk on the cells' neighbour graph; and beside this place, at half its length, principal components.
    * Genes: weighed alike there; here by their variance beyond chance.
    * Decoder: transformer blocks there; here a bottleneck, so that tokens describe the cell and not the patch next to
      the hidden one.
    * Embedding: the mean of the encoded patches there; here the decoder's prediction, for cells with and without
      neighbours alike.
    * Patches: one convolution for all there; here a weight matrix for each, which was clearly better in a pilot on
      PBMC 4k.
    * The paper gives no normalisation, gene selection or positions; those here are contrastive-sc's and the masked
      autoencoder's (He et al. 2022).

    References
    ----------
    mask-sc: masked modelling of gene-expression matrices for clustering. He et al. (2022), Masked autoencoders are
    scalable vision learners, CVPR.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> sc_ssl.models.MaskSC.setup_anndata(adata)
    >>> model = sc_ssl.models.MaskSC(adata)
    >>> model.train()
    >>> model.get_latent_representation().shape
    (700, 70)
    """

    training = TrainingDefaults(
        max_epochs=40,
        batch_size=128,
        min_steps=400,
        plan={"lr": 2e-3, "weight_decay": 0.05, "betas": (0.9, 0.95), "warmup_rate": 0.1},
        gradient_clip_val=1.0,
    )
    module: MaskSCModule
    takes_new_batches = True

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        n_latent: int | None = None,
        target: Target = "diffusion+components",
        n_components: int = 30,
        n_neighbors: int | None = None,
        teacher: ContrastiveSC | Mapping[str, Any] | None = None,
        mask_rate: float = 0.75,
        weigh_genes: bool = True,
        patches: Mapping[str, Any] | None = None,
        n_hidden: int = 64,
        transformer: Mapping[str, Any] | None = None,
        decoder: Mapping[str, int] | None = None,
        readout: Readout = "prediction",
    ) -> None:
        super().__init__(adata, registry)
        check_choice("target", target, get_args(Target))
        check_choice("readout", readout, get_args(Readout))
        check_rate("mask_rate", mask_rate)
        check_teacher(self, teacher, target)
        check_n_latent(n_latent, target, readout)
        patches = patch_settings(patches)
        transformer = with_defaults("transformer", transformer, TRANSFORMER)
        decoder = decoder_settings(decoder)
        plain_teacher = teacher_settings(teacher)

        n_genes = len(self.var_names)
        patch_genes_tp = gene_patches(n_genes, patches["size"], patches["order"], self._cells)
        n_patches, patch_size = patch_genes_tp.shape
        normalize = self._normalizer(weigh_genes=weigh_genes, by_batch=False)
        if isinstance(teacher, ContrastiveSC):
            normalize.load_state_dict(teacher.module.normalize.state_dict())
        if target == "components" and n_latent is not None:
            n_components = n_latent
        frozen = build_frozen(
            self, target, teacher, normalize=normalize, patch_genes_tp=patch_genes_tp, n_components=n_components
        )
        dimensions = graph_dimensions(target, n_latent, at_most=min(n_components, n_genes))
        n_output = sum(dimensions) if target in OF_THE_GRAPH else patch_size if frozen is None else frozen.n_features

        self.module = MaskSCModule(
            normalize=normalize,
            frozen=frozen,
            patch_genes_tp=patch_genes_tp,
            patch_embed=build_patch_embed(patches["embed"], patch_genes_tp, n_hidden),
            encoder=Transformer(n_hidden, **transformer),
            decoder=build_decoder(decoder, n_patches, n_hidden, n_output),
            target=target,
            n_place=dimensions[0],
            readout=readout,
            mask_rate=mask_rate,
        )
        self.n_neighbors, self._dimensions = n_neighbors, dimensions
        self.init_params_ = self._get_init_params(locals() | {"teacher": plain_teacher})

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
        check_choice("of", of, ("received", "cls"))
        self._check_if_trained(warn=False)

        def attention(cells: Mapping[str, Tensor]) -> Tensor:
            weights_nqk = self.module.encoder.attention(self.module.tokens(self.module.patches(cells)))
            return (weights_nqk[:, 0] if of == "cls" else weights_nqk.mean(dim=1))[:, 1:]

        values = self._map_cells(attention, adata, indices)
        names = (self.adata if adata is None else adata).obs_names
        return pd.DataFrame(
            values,
            index=names[positions(len(names), indices)],
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
        """The encoder's input as the paper's matrix: z-scored expression, (n, rows, columns).

        Patches of :attr:`patch_shape` stand row by row in a matrix that is as square as can be; slots without a gene
        are 0. :func:`sc_ssl.pl.attention` draws it.
        """
        patch_ntp = self._map_cells(self.module.patches, adata, indices)
        n, t, _ = patch_ntp.shape
        height, width = self.patch_shape
        n_across = int(np.ceil(t**0.5))
        n_down = -(-t // n_across)
        # (n, down · across, height, width) → (n, down, across, height, width)
        # → (n, down, height, across, width) → (n, rows, columns)
        grid = np.zeros((n, n_down * n_across, height, width), np.float32)
        grid[:, :t] = patch_ntp.reshape(n, t, height, width)
        return grid.reshape(n, n_down, n_across, height, width).swapaxes(2, 3).reshape(n, n_down * height, -1)

    @property
    def patch_shape(self) -> tuple[int, int]:
        """Rows and columns of a patch in the expression matrix."""
        patch_size = self.module.patch_genes_tp.shape[1]
        height = max(h for h in range(1, int(patch_size**0.5) + 1) if patch_size % h == 0)
        return height, patch_size // height

    def phases(self, max_epochs: int | None = None) -> Iterator[Phase]:
        """The teacher where there is one to train, then the masked model on the features that it predicts."""
        cells, frozen = self._own_cells(), self.module.frozen
        if isinstance(frozen, FrozenComponents) and not frozen.loading_gc.any():
            frozen.fit(torch.cat([x_ng.cpu() for x_ng in self._normalized(cells.spread(MAX_CELLS))]))
        elif isinstance(frozen, FrozenTeacher):
            if not frozen.is_trained:
                logger.info("Training the contrastive teacher.")
                with frozen.unfrozen():
                    yield teacher_phase(frozen, cells, max_epochs)
                frozen.is_trained.fill_(True)
                logger.info("Training the masked model.")
            minibatches = self._normalized(cells)
            frozen.fit_scale((x_ng, to_patches(x_ng, self.module.patch_genes_tp)) for x_ng in minibatches)
        if self.module.target in OF_THE_GRAPH:
            cells = cells.spread(MAX_GRAPH_CELLS)
            cells = cells.beside(target=self._place_in_graph(cells))
        yield Phase(self.module, cells, self.training, max_epochs)

    def _place_in_graph(self, cells: Cells) -> np.ndarray:
        """Each cell's place in the neighbour graph and its leading components, of all batches in one space, (n, c)."""
        loading_gc = self.module.frozen.loading_gc
        components = torch.cat([(x_ng @ loading_gc).cpu() for x_ng in self._normalized(cells)]).numpy()
        if self.summary_stats.n_batch > 1:
            # the encoder sees expression as it is and learns to predict places from which the batch has been taken off, so
            # that it needs no batch of the cells that it embeds
            found = harmonize(components, cells.batch)
            warn_of_separate(found.share_nk, cells.batch, _compat.registered_batches(self.registry_))
            components = found.z_nd.astype(np.float32)
        n_neighbors = self.n_neighbors or min(30, max(5, cells.n_cells // 50))
        return graph_position(components, n_neighbors, self._dimensions)

    @torch.no_grad()
    def _normalized(self, cells: Cells) -> Iterator[Tensor]:
        for minibatch in self._loader(cells):
            yield self.module.normalize(minibatch)
