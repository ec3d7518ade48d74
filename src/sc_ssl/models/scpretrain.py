"""scPretrain (Zhang, Luo, Ma, Zhang & Wang 2022, Bioinformatics 38:1607)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_ssl import _compat
from sc_ssl._checks import check_choice
from sc_ssl._keys import SIZE_FACTOR
from sc_ssl.data import gene_statistics, principal_components
from sc_ssl.nn import MLP, LogNormalize

from ._base import SSLModel
from ._module import SSLModule
from ._pseudo_labels import Recluster, agreement, cluster_entropy, kmeans_labels, reset_heads
from ._studies import DATASET, MEASURED, join_studies
from ._training import TrainingDefaults

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from lightning.pytorch import Callback

    from sc_ssl.data import Cells

#: principal components in which the first labels are made
N_COMPONENTS = 50
#: counts per cell after normalisation
TARGET_SUM = 1e4
#: what the paper chose; `ScPretrain.paper`
PAPER: dict[str, Any] = {
    "n_latent": 200,
    "encoder": "linear",
    "scale": "log1p",
    "gate": "sigmoid",
    "cells_per_cluster": (50, 100, 200),
    "cluster_on": "raw",
    "task_weight": "none",
    "sampling_exponent": 0.0,
    "recluster_every": 50,
}


class ScPretrainModule(SSLModule):
    """An encoder whose gated output tells apart, by one head for each data set, that data set's own clusters."""

    label_nj: Tensor
    n_epochs_of_round: Tensor

    def __init__(
        self,
        *,
        normalize: LogNormalize,
        encoder: nn.Module,
        gate: nn.Module,
        n_latent: int,
        n_clusters_bj: Sequence[Sequence[int]],
        weigh_tasks: bool,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.encoder = encoder
        self.gate = gate
        self.n_clusters_bj = [list(k_j) for k_j in n_clusters_bj]
        self.weigh_tasks = weigh_tasks
        self.heads = nn.ModuleList(nn.Linear(n_latent, sum(k_j)) for k_j in self.n_clusters_bj)
        shape = len(self.n_clusters_bj), len(self.n_clusters_bj[0])
        self.register_buffer("n_epochs_of_round", torch.tensor(0))
        self.register_buffer("agreement_bj", torch.zeros(shape))
        self.register_buffer("entropy_bj", torch.zeros(shape))
        self.register_buffer("right_bj", torch.zeros(shape), persistent=False)
        self.register_buffer("seen_bj", torch.zeros(shape), persistent=False)
        self.register_buffer("label_nj", torch.zeros(0, shape[1], dtype=torch.int64), persistent=False)

    def embed(self, cells: dict[str, Tensor]) -> Tensor:
        """The encoder's output (n, n_latent), before the gate."""
        return self.encoder(self.normalize(cells))

    def ssl_loss(self, cells: dict[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy of each cell's cluster under its data set's head, summed over mean cluster sizes."""
        h_nd, label_nj = self.gate(self.embed(cells)), self.label_nj[cells["cell"]]
        batch_n, total = cells["batch"].flatten(), h_nd.new_zeros(())
        for b, (head, k_j) in enumerate(zip(self.heads, self.n_clusters_bj, strict=True)):
            rows = (batch_n == b).nonzero().flatten()
            if len(rows):
                logits = head(h_nd[rows]).split(k_j, dim=1)
                total = total + self._cross_entropy(logits, label_nj[rows], b)
        return {"cross_entropy": total / len(batch_n)}

    def _cross_entropy(self, logits: Sequence[Tensor], label_mj: Tensor, b: int) -> Tensor:
        """Sum over cells and clusterings of one data set; a task of k clusters starts near ln k, and may be divided by it."""
        total = logits[0].new_zeros(())
        for j, logits_mk in enumerate(logits):
            weight = 1 / math.log(logits_mk.shape[1]) if self.weigh_tasks else 1.0
            total = total + weight * F.cross_entropy(logits_mk, label_mj[:, j], reduction="sum")
            if self.training:
                self.right_bj[b, j] += (logits_mk.detach().argmax(dim=1) == label_mj[:, j]).sum()
                self.seen_bj[b, j] += len(label_mj)
        return total

    # the labels are part of the state, but there are as many as cells, which a buffer's shape may not follow

    def get_extra_state(self) -> Tensor:
        """The labels, as they are saved."""
        return self.label_nj

    def set_extra_state(self, state: Tensor) -> None:
        """The labels, as they are loaded."""
        self.label_nj = state.to(self.label_nj).clone()


class ScPretrain(SSLModel):
    """scPretrain: learns to tell apart the clusters of every data set, at several resolutions; key ``X_scpretrain``.

    Each batch (data set) is clustered by itself into groups of 50, 100 and 200 cells on average, and a shared encoder
    with a head for each learns to predict them all. Then cells are clustered anew in the latent space, heads start
    again, and so on. Departs from the paper where that made sense or measured better on development data: genes are
    centred log1p of counts per 10,000 instead of log1p of raw counts, first clusters come from principal
    components instead of raw counts, each task is weighed by 1 / ln k, small data sets are drawn more often, and the
    learning rate is ten times higher with far fewer epochs. Logits enter the cross-entropy as they are, as the paper
    says; its code squashes them by a second sigmoid, which leaves at most one nat to learn. :meth:`paper` gives the
    published settings.

    Parameters
    ----------
    adata
        Cells registered with :meth:`setup_anndata`; ``batch_key`` names the data set, if there are several.
    registry
        Instead of ``adata``: the registry of a saved model.
    n_latent
        Dimension of the embedding.
    encoder
        ``"linear"``: one linear layer, as published; ``"mlp"``: one hidden layer of 512 units with layer norm.
    scale
        What the encoder sees of counts: ``"cp10k"``, log1p of counts per 10,000 less its mean; ``"zscore"``, the same
        over its standard deviation; or ``"log1p"`` of raw counts, as published, where a gene that was not measured
        cannot be told from a zero.
    gate
        Between embedding and heads: ``"sigmoid"``, as published, or ``"relu"`` with layer norm.
    cells_per_cluster
        Mean cluster sizes, one clustering each.
    cluster_on
        Where the first labels are made: in principal components (``"pca"``) or on counts (``"raw"``, as published).
    task_weight
        ``"log_k"`` divides each task's cross-entropy by ln k; ``"none"`` sums them as they are.
    sampling_exponent
        A cell of a data set of n cells is drawn with weight n^(exponent − 1): 1 draws all alike, 0 as many cells of
        each data set.
    recluster_every
        Epochs of a round.
    n_clusters
        Clusters of each data set at each mean size; by default the size of the data set over the mean size, at least 2.

    References
    ----------
    Zhang et al. (2022), scPretrain: multi-task self-supervised learning for cell-type classification, Bioinformatics
    38:1607–1614.
    """

    module: ScPretrainModule
    training = TrainingDefaults(max_epochs=40, batch_size=256, min_steps=600, plan={"lr": 1e-3})
    takes_new_batches = True

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        n_latent: int = 200,
        encoder: Literal["linear", "mlp"] = "linear",
        scale: Literal["cp10k", "zscore", "log1p"] = "cp10k",
        gate: Literal["sigmoid", "relu"] = "sigmoid",
        cells_per_cluster: Sequence[int] = (50, 100, 200),
        cluster_on: Literal["pca", "raw"] = "pca",
        task_weight: Literal["log_k", "none"] = "log_k",
        sampling_exponent: float = 0.5,
        recluster_every: int = 10,
        n_clusters: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__(adata, registry)
        given = {"encoder": encoder, "scale": scale, "gate": gate, "cluster_on": cluster_on, "task_weight": task_weight}
        for name, value in given.items():
            check_choice(name, value, CHOICES[name])
        if recluster_every < 1 or not cells_per_cluster or min(cells_per_cluster) < 2:
            raise ValueError(
                "recluster_every is at least 1 and every mean cluster size at least 2, found "
                f"{recluster_every} and {tuple(cells_per_cluster)}."
            )
        self.cells_per_cluster, self.cluster_on = tuple(cells_per_cluster), cluster_on
        self.sampling_exponent, self.recluster_every = sampling_exponent, recluster_every
        self._labelled: Cells | None = None
        n_genes = len(self.var_names)
        self.module = ScPretrainModule(
            normalize=self._scaled(scale),
            encoder=nn.Linear(n_genes, n_latent)
            if encoder == "linear"
            else MLP(n_genes, (512,), n_latent, norm="layer"),
            gate=nn.Sigmoid() if gate == "sigmoid" else nn.Sequential(nn.LayerNorm(n_latent), nn.ReLU()),
            n_latent=n_latent,
            n_clusters_bj=n_clusters or self._cluster_numbers(),
            weigh_tasks=task_weight == "log_k",
        )
        self.init_params_ = self._get_init_params(locals())

    @classmethod
    def paper(cls, adata: AnnData) -> Self:
        """The paper's settings: Adam at 1e-4, ten rounds of 50 epochs, log1p of raw counts, sigmoid gates.

        As in the authors' code an epoch has 30 steps, each with a 30th of all cells.
        """
        model = cls(adata, **PAPER)
        model.training = TrainingDefaults(
            max_epochs=500,
            batch_size=max(2, math.ceil(adata.n_obs / 30)),
            plan={"lr": 1e-4, "schedule": "constant"},
        )
        return model

    @classmethod
    def from_adatas(
        cls,
        adatas: Mapping[str, AnnData],
        *,
        species: Mapping[str, str] | None = None,
        orthologs: pd.DataFrame | str | Path | None = None,
        across: Literal["union", "intersection"] = "union",
        min_datasets: int = 1,
        n_top_genes: int | None = None,
        layer: str | None = None,
        replicate: Literal["paper"] | None = None,
        **model_kwargs: Any,
    ) -> Self:
        """A model of several data sets, of one species or of several.

        Genes are matched by name, those of other species through a table of orthologs. A gene that a data set did not
        measure is no zero: there it takes part in nothing. Library sizes are those over all genes of each data set.

        Parameters
        ----------
        adatas
            Name → cells × genes with raw counts; they need no setup and are not changed.
        species
            Name → ``"human"``, ``"mouse"``, …; by default read from how the genes are written.
        orthologs
            As of :func:`sc_ssl.pp.map_orthologs`: needed when there is more than one species. All genes take the names
            of the species with most cells.
        across
            ``"union"`` of the species' genes, or the ``"intersection"``, as in the paper.
        min_datasets
            Data sets that must have measured a gene.
        n_top_genes
            Only this many genes, those that vary most within some data set; ``None`` takes all.
        layer
            Layer of counts; ``None`` takes ``layers["counts"]`` if there, else ``X``.
        replicate
            ``"paper"``: the settings of :meth:`paper`.
        **model_kwargs
            Arguments of the constructor.

        Raises
        ------
        ValueError
            No data set, or one with under ten cells or without genes in common with the others; several species
            without ``orthologs``; Ensembl ids mixed with symbols.
        """
        if replicate not in (None, "paper") or (replicate and model_kwargs):
            raise ValueError(
                f"replicate is None or 'paper', which takes no further settings; found {replicate!r} and "
                f"{', '.join(model_kwargs) or 'none'}."
            )
        cells = join_studies(
            adatas,
            species=species,
            orthologs=orthologs,
            across=across,
            min_datasets=min_datasets,
            n_top_genes=n_top_genes,
            layer=layer,
        )
        cls.setup_anndata(cells, batch_key=DATASET, size_factor_key=SIZE_FACTOR)
        try:
            return cls.paper(cells) if replicate else cls(cells, **model_kwargs)
        finally:
            _compat.release(cls, cells)

    def train(self, max_epochs: int | None = None, *, callbacks: Iterable[Callback] = (), **options: Any) -> None:
        """Train in rounds; the cells are clustered anew before each. A second call goes on from the first.

        The history has, for each data set and mean cluster size, ``accuracy_<data set>_<size>``, ``agreement_…``
        (normalised mutual information of the labels with those of the round before, 0 in the first) and ``entropy_…`` (of the
        clusters' sizes, as a share of its maximum).

        Parameters
        ----------
        max_epochs
            Times through the cells, by default the method's own.
        callbacks
            Lightning callbacks.
        **options
            As of the other models: ``batch_size``, ``accelerator``, ``plan_kwargs``, ….
        """
        super().train(max_epochs, callbacks=[Recluster(self, every=self.recluster_every), *callbacks], **options)

    def get_pseudo_labels(self) -> np.ndarray:
        """The clusters that the model was last trained on: (n, mean sizes), numbered from 0 within each data set."""
        return self.module.label_nj.cpu().numpy()

    @property
    def tasks(self) -> dict[tuple[int, int], str]:
        """Name of each task by the positions of its data set and mean cluster size."""
        names = _compat.registered_batches(self.registry_)
        sizes = [f"{size}" for size in self.cells_per_cluster]
        return {(b, j): f"{name}_{size}" for b, name in enumerate(names) for j, size in enumerate(sizes)}

    def plain_init_params(self) -> dict[str, Any]:
        """The constructor's arguments, with the numbers of clusters."""
        return super().plain_init_params() | {"n_clusters": self.module.n_clusters_bj}

    def label_cells(self, *, on_latent: bool) -> None:
        """Cluster each data set by itself, in the latent space or for the first time, and start the heads again."""
        cells, module = self._own_cells(), self.module
        latent_nd = self._map_cells(module.embed, None, None) if on_latent else None
        old_nj = module.label_nj.cpu().numpy()
        new_nj = np.zeros((cells.n_cells, len(self.cells_per_cluster)), dtype=np.int64)
        for b, k_j in enumerate(module.n_clusters_bj):
            rows = np.flatnonzero(cells.batch == b)
            if not len(rows):
                continue
            space = self._first_space(cells, rows) if latent_nd is None else latent_nd[rows]
            for j, k in enumerate(k_j):
                new_nj[rows, j] = kmeans_labels(space, k, seed=int(torch.randint(2**31, ())))
                module.entropy_bj[b, j] = cluster_entropy(new_nj[rows, j], k)
                known = len(old_nj) == len(new_nj)
                module.agreement_bj[b, j] = agreement(old_nj[rows, j], new_nj[rows, j]) if known else 0.0
        module.label_nj = torch.as_tensor(new_nj, device=self.device)
        module.n_epochs_of_round.zero_()
        reset_heads(module.heads)
        self._labelled = cells

    def _training_cells(self, **_: Any) -> Cells:
        """The cells with what their labels are looked up by; labels are made for cells that have none yet."""
        cells = self._own_cells()
        if (cells.batch < 0).any():
            raise ValueError(
                f"{type(self).__name__} trains on the data sets that it was built with, found "
                f"{(cells.batch < 0).sum()} cells of others; build a new model with from_adatas, or annotate them with "
                "CellClassifier."
            )
        if self._labelled is not cells:
            self.label_cells(on_latent=self.is_trained_)
        n_b = np.bincount(cells.batch, minlength=len(self.module.heads))
        weight_n = n_b[cells.batch].astype(float) ** (self.sampling_exponent - 1)
        weighted = replace(cells, weight=None if np.ptp(weight_n) == 0 else weight_n)
        return weighted.beside(cell=np.arange(cells.n_cells))

    def _first_space(self, cells: Cells, rows: np.ndarray) -> Any:
        """Where one data set is clustered first: its own principal components, or its counts."""
        own = cells.take(rows)
        if self.cluster_on == "raw":
            return own.matrix
        log_input = self.setup_arguments["input"] == "log1p"
        own = replace(own, batch=np.zeros_like(own.batch))
        return principal_components(own, n_comps=N_COMPONENTS, log_input=log_input, clip=10.0)

    def _cluster_numbers(self) -> list[list[int]]:
        n_b = np.bincount(self._own_cells().batch, minlength=self.summary_stats.n_batch)
        return [[max(2, int(n // size)) for size in self.cells_per_cluster] for n in n_b]

    def _scaled(self, scale: str) -> LogNormalize:
        """The normalisation. One mean and sd of a gene serve all data sets, taken over those that measured it."""
        n_genes, n_batch = len(self.var_names), self.summary_stats.n_batch
        log_input, clip = self.setup_arguments["input"] == "log1p", 10.0 if scale == "zscore" else math.inf
        normalize = LogNormalize(n_genes, n_batch, clip=clip, log_input=log_input, by_library=scale != "log1p")
        if scale == "log1p" or self._cells is None:  # the first needs no statistics, else they come with the tensors
            return normalize
        _, mean_bg, sd_bg = gene_statistics(self._cells, n_batch=n_batch, log_input=log_input, target_sum=TARGET_SUM)
        normalize.set_statistics(TARGET_SUM, torch.as_tensor(mean_bg), torch.as_tensor(sd_bg))
        measured_bg = torch.ones(n_batch, n_genes, dtype=torch.bool)
        if MEASURED in self._adata.varm:
            of = self._adata.varm[MEASURED][_compat.registered_batches(self.registry_)]
            measured_bg = torch.as_tensor(of.to_numpy(dtype=bool).T.copy())
        pool_statistics(normalize, torch.as_tensor(np.bincount(self._cells.batch, minlength=n_batch)), measured_bg)
        if scale == "cp10k":
            normalize.sd_bg.fill_(1.0)
        return normalize


def pool_statistics(normalize: LogNormalize, n_b: Tensor, measured_bg: Tensor) -> None:
    """One mean and sd of each gene for all batches, from those that measured it; it is 0 wherever it was not measured."""
    weight_bg = n_b[:, None] * measured_bg.double()
    share_bg = weight_bg / weight_bg.sum(dim=0).clamp(min=1)
    mean_bg, sd_bg = normalize.mean_bg[1:].double(), normalize.sd_bg[1:].double()
    mean_g = (share_bg * mean_bg).sum(dim=0)
    sd_g = (share_bg * (sd_bg**2 + (mean_bg - mean_g) ** 2)).sum(dim=0).sqrt()
    sd_g = torch.where(sd_g > 1e-6, sd_g, 1.0)
    all_bg = torch.cat([torch.ones_like(measured_bg[:1]), measured_bg])
    normalize.mean_bg.copy_(torch.where(all_bg, mean_g, 0.0))
    normalize.sd_bg.copy_(torch.where(all_bg, sd_g, 1.0))


CHOICES = {
    "encoder": ("linear", "mlp"),
    "scale": ("cp10k", "zscore", "log1p"),
    "gate": ("sigmoid", "relu"),
    "cluster_on": ("pca", "raw"),
    "task_weight": ("log_k", "none"),
}
