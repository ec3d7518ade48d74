"""scPretrain (Zhang, Luo, Ma, Zhang & Wang 2022, Bioinformatics 38:1607)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from torch import nn

from sc_ssl import _compat
from sc_ssl._checks import check_choice
from sc_ssl._keys import DATASET, LIBRARY_SIZE, MEASURED, SPECIES
from sc_ssl.data import MIN_COVERAGE, GeneVocabulary, check_writable, opened, positions, write_rows
from sc_ssl.models.base import Phase, SSLModel, TrainingDefaults
from sc_ssl.nn import MLP
from sc_ssl.pp import join_studies

from .module import N_ROWS, ScPretrainModule, is_linear, map_linearly
from .pseudo_labels import (
    KMeansBy,
    Recluster,
    check_cluster_numbers,
    check_kmeans,
    cluster_numbers,
    first_space,
    label_study,
    require_faiss,
)
from .scale import pooled_normalizer

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from anndata import AnnData

    from sc_ssl.data import Cells


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


class ScPretrain(SSLModel):
    """scPretrain: an encoder pretrained on clusters of many data sets at several resolutions; key ``X_scpretrain``.

    Each batch (data set) is clustered by itself into groups of 50, 100 and 200 cells on average, and a shared encoder
    with a head for each learns to predict them all. Then cells are clustered again in the latent space, heads start
    again, and so on. Counts stay sparse; while training, normalised cells are kept dense where they take at most 512 MB.

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
        cannot be distinguished from a zero.
    gate
        Between embedding and heads: ``"sigmoid"``, as published, or ``"relu"`` with layer norm.
    cells_per_cluster
        Mean cluster sizes, one clustering each.
    cluster_on
        Where the first labels are made: in principal components (``"pca"``) or on counts (``"raw"``, as published).
    kmeans
        scikit-learn's K-means on minibatches; or faiss's: ``pip install "sc_ssl[faiss]"``.
    task_weight
        ``"log_k"`` divides each task's cross-entropy by ln k; ``"none"`` sums them as they are.
    sampling_exponent
        A cell of a data set of n cells is drawn with weight n^(exponent − 1): 1 draws all alike, 0 as many cells of
        each data set.
    recluster_every
        Epochs of a round.
    n_clusters
        Clusters of each data set at each mean size; by default the size of the data set over the mean size, at least 2.
    species
        Whose names the genes have, which is kept with the model; :meth:`from_adatas` sets it.

    Notes
    -----
    Differences from the paper, chosen where they made sense or were better on development data. :meth:`paper` gives the
    published settings.

    * Input: log1p of raw counts there; here centred log1p of counts per 10,000.
    * First clusters: of raw counts there; here of principal components.
    * Tasks: weighed alike there; here by 1 / ln k, which is their loss at the start.
    * Data sets: here small ones are drawn more often than their share of the cells.
    * Learning rate: here ten times higher, with far fewer epochs.
    * Logits: the paper's formula takes them as they are, as here; its code passes them through a second sigmoid, which
      leaves at most one nat to learn.

    References
    ----------
    Zhang et al. (2022), scPretrain: multi-task self-supervised learning for cell-type classification, Bioinformatics
    38:1607–1614.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> sc_ssl.models.ScPretrain.setup_anndata(adata)
    >>> model = sc_ssl.models.ScPretrain(adata)
    >>> model.train()
    >>> model.get_latent_representation().shape
    (700, 200)
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
        kmeans: KMeansBy = "minibatch",
        task_weight: Literal["log_k", "none"] = "log_k",
        sampling_exponent: float = 0.5,
        recluster_every: int = 10,
        n_clusters: Sequence[Sequence[int]] | None = None,
        species: str | None = None,
    ) -> None:
        super().__init__(adata, registry)
        check_choice("encoder", encoder, ("linear", "mlp"))
        check_choice("scale", scale, ("cp10k", "zscore", "log1p"))
        check_choice("gate", gate, ("sigmoid", "relu"))
        check_choice("cluster_on", cluster_on, ("pca", "raw"))
        check_kmeans(kmeans, cluster_on)
        if adata is not None:
            require_faiss(kmeans)
        check_choice("task_weight", task_weight, ("log_k", "none"))
        if recluster_every < 1 or not cells_per_cluster or min(cells_per_cluster) < 2:
            raise ValueError(
                "recluster_every is at least 1 and every mean cluster size at least 2, found "
                f"{recluster_every} and {tuple(cells_per_cluster)}."
            )
        self.cells_per_cluster, self.cluster_on, self.kmeans = tuple(cells_per_cluster), cluster_on, kmeans
        self.sampling_exponent, self.recluster_every, self.species = sampling_exponent, recluster_every, species
        self._labelled: Cells | None = None
        if n_clusters is None:
            n_clusters = cluster_numbers(self._own_cells().batch, self.summary_stats.n_batch, cells_per_cluster)
        elif adata is not None:
            check_cluster_numbers(n_clusters, self.datasets, len(cells_per_cluster), self._own_cells().batch)
        n_genes = len(self.var_names)
        self.module = ScPretrainModule(
            normalize=pooled_normalizer(
                scale,
                n_genes,
                self.summary_stats.n_batch,
                cells=self._cells,
                measured_bg=None if adata is None else self._measured(adata),
                log_input=self.setup_arguments["input"] == "log1p",
            ),
            encoder=nn.Linear(n_genes, n_latent)
            if encoder == "linear"
            else MLP(n_genes, (512,), n_latent, norm="layer"),
            gate=nn.Sigmoid() if gate == "sigmoid" else nn.Sequential(nn.LayerNorm(n_latent), nn.ReLU()),
            n_latent=n_latent,
            n_clusters_bj=n_clusters,
            weigh_tasks=task_weight == "log_k",
        )
        self.init_params_ = self._get_init_params(locals())

    @classmethod
    def paper(cls, adata: AnnData, *, species: str | None = None) -> Self:
        """The paper's settings: Adam at 1e-4, ten rounds of 50 epochs, log1p of raw counts, sigmoid gates.

        As in the authors' code an epoch has 30 steps, each with a 30th of all cells.
        """
        model = cls(adata, species=species, **PAPER)
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
        cls.setup_anndata(cells, batch_key=DATASET, library_size_key=LIBRARY_SIZE)
        try:
            build = cls.paper if replicate else cls
            return build(cells, species=cells.uns.get(SPECIES), **model_kwargs)
        finally:
            _compat.release(cls, cells)

    def get_pseudo_labels(self) -> np.ndarray:
        """The clusters that the model was last trained on: (n, mean sizes), numbered from 0 within each data set."""
        return self.module.label_nj.cpu().numpy()

    @property
    def vocabulary(self) -> GeneVocabulary:
        """The genes in their order, whose names they are, and their hash."""
        return GeneVocabulary(tuple(self.var_names), self.species)

    @property
    def datasets(self) -> list[str]:
        """Names of the data sets that it learns from."""
        return _compat.registered_batches(self.registry_)

    @property
    def tasks(self) -> dict[tuple[int, int], str]:
        """Name of each task by the positions of its data set and mean cluster size."""
        sizes = self.cells_per_cluster
        return {(b, j): f"{name}_{size}" for b, name in enumerate(self.datasets) for j, size in enumerate(sizes)}

    def _label_cells(self, *, on_latent: bool) -> None:
        """Cluster each data set by itself, in the latent space or for the first time, and start the heads again."""
        cells, module = self._own_cells(), self.module
        latent_nd = self._map_cells(module.embed, None, None) if on_latent else None
        log_input = self.setup_arguments["input"] == "log1p"
        old_nj = module.label_nj.cpu().numpy()
        new_nj = np.zeros((cells.n_cells, len(self.cells_per_cluster)), dtype=np.int64)
        for b, k_j in enumerate(module.n_clusters_bj):
            rows = np.flatnonzero(cells.batch == b)
            if not len(rows):
                continue
            if latent_nd is not None:
                space_md = latent_nd[rows]
            else:
                try:
                    space_md = first_space(cells.take(rows), self.cluster_on, log_input=log_input)
                except ValueError as error:
                    raise ValueError(f"data set {self.datasets[b]!r}: {error.args[0]}") from error
            old_mj = old_nj[rows] if len(old_nj) == len(new_nj) else None
            found = label_study(space_md, k_j, old_mj, self.kmeans)
            new_nj[rows], module.entropy_bj[b], module.agreement_bj[b] = found
        module.label_nj = torch.as_tensor(new_nj, device=self.device)
        module.start_round()

    def _measured(self, adata: AnnData) -> np.ndarray | None:
        """Which genes each data set measured, (b, g), where :func:`sc_ssl.pp.join_studies` noted it."""
        return adata.varm[MEASURED][self.datasets].to_numpy(dtype=bool).T.copy() if MEASURED in adata.varm else None

    def plain_init_params(self) -> dict[str, Any]:
        """The constructor's arguments, with the numbers of clusters."""
        return super().plain_init_params() | {"n_clusters": self.module.n_clusters_bj}

    def get_latent_representation(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        batch_size: int | None = None,
        *,
        out: str | Path | Any = None,
    ) -> np.ndarray:
        """Embed cells, as of the other models; a linear encoder maps them while they are sparse."""
        if not is_linear(self.module):
            return super().get_latent_representation(adata, indices, batch_size, out=out)
        self._check_if_trained(warn=False)
        if isinstance(out, str | Path):
            out = check_writable(out)
        cells = self._own_cells() if adata is None else self._read(opened(adata), MIN_COVERAGE)
        index = positions(cells.n_cells, indices)
        if out is None:
            return map_linearly(self.module, cells, index)
        parts = (map_linearly(self.module, cells, part) for part in np.split(index, range(N_ROWS, len(index), N_ROWS)))
        return write_rows(parts, len(index), out)

    def phases(self, max_epochs: int | None = None) -> Iterator[Phase]:
        """One, in rounds: the cells are clustered once more before each; a second call goes on from the first.

        The history has, for each data set and mean cluster size, ``accuracy_<data set>_<size>``, ``agreement_…``
        (normalised mutual information of the labels with those of the round before, 0 in the first) and ``entropy_…`` (of the
        clusters' sizes, as a share of its maximum).
        """
        cells = self._own_cells()
        if (cells.batch < 0).any():
            raise ValueError(
                f"{type(self).__name__} trains on the data sets that it was built with, found "
                f"{(cells.batch < 0).sum()} cells of others; build a new model with from_adatas, or annotate them with "
                "CellClassifier."
            )
        if self._labelled is not cells:
            self._label_cells(on_latent=self.is_trained_)
            self._labelled = cells
        weight_n = np.bincount(cells.batch)[cells.batch].astype(float) ** (self.sampling_exponent - 1)
        weighted = replace(cells, weight=None if np.ptp(weight_n) == 0 else weight_n)
        cells = weighted.beside(cell=np.arange(cells.n_cells))
        relabel = partial(self._label_cells, on_latent=True)
        recluster = Recluster(self.module, relabel, tasks=self.tasks, every=self.recluster_every)
        yield Phase(self.module, cells, self.training, max_epochs, callbacks=[recluster])
