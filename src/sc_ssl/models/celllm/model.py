"""CellLM (Zhao, Zhang & Nie 2023, arXiv 2306.04371)."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
import torch

from sc_ssl._checks import check_choice, check_count, check_positive, check_weight, with_defaults
from sc_ssl._logging import logger
from sc_ssl.data import batch_statistics
from sc_ssl.models.base import Phase, SSLModel, TrainingDefaults
from sc_ssl.nn import MLP, Transformer

from .inputs import GeneTable, ValueEmbedding, given_genes, start_loadings
from .malignancy import MALIGNANT, check_malignancy, malignancy_labels
from .module import CellLMModule
from .tokens import Tokenizer
from .view import CellView

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from anndata import AnnData

    from sc_ssl.data import Cells


#: the defaults of the arguments that group several settings
TOKENS = {"values": "continuous", "n_bins": 6, "target_sum": None, "max_genes": 512, "max_training_genes": 64}
VIEW = {"gene_dropout_rate": 0.2, "thinning_rate": 0.5, "mask_rate": 0.15, "predict_from": "cell"}
TRANSFORMER = {"n_layers": 2, "n_heads": 4, "head_width": None, "attention": "exact", "dropout_rate": 0.1}
WEIGHTS = {"contrastive": 0.03, "masked": 1.0, "malignancy": 1.0}
#: what is known of the published model; the other settings were never released
PAPER: dict[str, Any] = {
    "n_latent": 512,
    "tokens": {"values": "log2", "n_bins": 6, "target_sum": 1e4, "max_genes": 5999, "max_training_genes": 5999},
    "view": {"gene_dropout_rate": 0.0, "thinning_rate": 0.0},
    "transformer": {"n_layers": 10, "n_heads": 16, "head_width": 64},
    "pooling": "cls",
    "temperature": 0.05,
    "weights": {"contrastive": 1.0},
}
#: more tokens a cell than this take long: attention grows with their square
MANY_TOKENS = 4096


class CellLM(SSLModel):
    """CellLM: a transformer on the genes that a cell expresses, trained on large minibatches; key ``X_celllm``.

    Three pretext terms: two views of a cell are to be nearer to each other than to all other cells of the minibatch;
    the hidden expression of some genes is predicted from the others; and, where there are labels, malignant cells are
    distinguished from others. The minibatch may be much larger than memory allows (``train(micro_batch_size=...)``,
    exact; see :class:`~sc_ssl.train.ChunkedContrastPlan`).

    Arguments that group several settings take a mapping of those that differ from the defaults, for example
    ``transformer={"n_layers": 4}``.

    Parameters
    ----------
    adata
        Cells registered with :meth:`setup_anndata`.
    registry
        Instead of ``adata``: the registry of a saved model.
    n_latent
        Width of the tokens and dimension of the embedding.
    tokens
        Which genes of a cell are read, and how.

        * ``values`` (``"continuous"``): the form in which expression enters. ``"continuous"``: weighed z-scores of
          log1p (batches brought to the same mean in like cells), less that of a gene without counts, which multiply the
          gene's vector and go through a small network; ``"quantile"``: bins among the cell's own genes; ``"log2"``: bins ⌊log2(1 + x)⌋, as published,
          few of them in shallow cells.
        * ``n_bins`` (6): number of bins, ≥ 2.
        * ``target_sum`` (``None``): counts per cell after normalisation, for bins and for the choice of genes; ``None``
          takes the median of the training cells, which z-scores need.
        * ``max_genes`` (512): genes of a cell that are shown for embedding, the most expressed ones; ``None`` shows all.
        * ``max_training_genes`` (64): genes of a cell that a view shows, drawn at random; ``None`` shows all.
    view
        What a view leaves out of a cell, and what is predicted from it.

        * ``gene_dropout_rate`` (0.2): share of a cell's genes that are left out, in [0, 1).
        * ``thinning_rate`` (0.5, without counts 0): largest share of molecules that are left out, in [0, 1), so that
          sequencing depth does not identify a cell.
        * ``predict_from``: ``"cell"`` (the default for z-scores) predicts the z-scores of all genes that a view does
          not show, whether expressed or not, from the cell's vector; ``"token"`` (the default for bins), as published,
          hidden values from the gene's own token.
        * ``mask_rate`` (0.15): share of the tokens whose value is predicted from the token, in (0, 1].
    transformer
        Arguments of :class:`~sc_ssl.nn.Transformer`: ``n_layers`` (2) blocks of ``n_heads`` (4) heads; ``head_width``
        (``None``: ``n_latent / n_heads``); ``attention`` (``"exact"``; ``"performer"``: random features, linear in the
        number of genes); ``dropout_rate`` (0.1), also of the tokens, in [0, 1).
    pooling
        ``"sum"`` over all tokens and, for z-scores, over what genes without expression would add; ``"mean"`` of the
        tokens; or ``"cls"``.
    temperature
        τ of NT-Xent, > 0.
    weights
        Of the terms, ≥ 0: ``contrastive`` (0.03), ``masked`` (1) and ``malignancy`` (1). At equal weights, which
        :meth:`paper` has, NT-Xent drowns the error of the z-scores.
    gene_embeddings
        Given vectors of genes: key of ``varm``, or a table, genes by name in its index; of any scale. A linear map,
        which is learnt, adds them to the start from components; without one (``n_start_components=0``, or bins) they
        alone make a gene's vector, as published, and those of genes that the table lacks, or whose row has NaN, are
        learnt.
    n_gene_dims
        Width of the given vectors; read from them.
    freeze_gene_embeddings
        Given vectors stay as they are; vectors that are learnt beside them are not frozen.
    n_start_components
        Learnt vectors of genes start as their loadings on so many principal components of the training cells, at most
        ``n_latent``, for z-scores; 0 starts at random.
    malignancy_key
        Column of ``obs`` with the malignant cells: booleans, or names with ``malignant_category``; missing values are
        unknown. Without, there is no such term. A label that nearly follows from ``batch_key`` is warned about.
    malignant_category
        The name that means malignant.

    Raises
    ------
    KeyError
        A column or a key that is not there.
    ValueError
        An unknown setting; a value out of its range; settings that exclude each other.

    Notes
    -----
    Differences from the paper and its released encoder. The code of the pretraining was never released: temperature,
    mask rate and weights are ours. :meth:`paper` gives the published sizes.

    * Attention: an approximation on 6,000 padded places in the paper; here exact, on the genes that are there, which is
      cheaper below about 3,000 genes (2,000 at the default width). No token attends to padding.
    * Masked values: here [MASK] has a code of its own.
    * Genes of a long cell: left out by their place in the list there; here by their expression, so that no gene is
      always left out.
    * Views: dropout of units alone there; here also random parts of a cell's genes and molecules.
    * Expression: bins there; here by default z-scores, which keep differences within a bin.
    * Start: at random there; here blocks start as the identity and vectors of genes as loadings of principal
      components, so that the sum of a cell's tokens starts as its components.
    * Hidden expression: predicted from the gene's token there; here by default from the cell's vector, as in scGPT
      (Cui et al. 2024), so that the embedding itself is trained.
    * Sizes: those of a GPU there; here of a CPU.

    References
    ----------
    Zhao, Zhang & Nie (2023), Large-scale cell representation learning via divide-and-conquer contrastive learning,
    arXiv 2306.04371. Gao et al. (2021), Scaling deep contrastive learning batch size under memory limited setup,
    arXiv 2101.06983. Cui et al. (2024), scGPT, Nature Methods 21:1470.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> sc_ssl.models.CellLM.setup_anndata(adata)
    >>> model = sc_ssl.models.CellLM(adata, transformer={"n_layers": 1})
    >>> model.train()
    >>> model.get_latent_representation(indices=range(10)).shape
    (10, 64)
    """

    reads = {"malignancy_key": ("obs",), "gene_embeddings": ("varm",)}
    training = TrainingDefaults(
        max_epochs=12,
        batch_size=128,
        min_steps=150,
        plan={"lr": 1e-3, "weight_decay": 1e-2, "warmup_rate": 0.1},
        gradient_clip_val=1.0,
        micro_batch_size="auto",
    )
    module: CellLMModule

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        n_latent: int = 64,
        tokens: Mapping[str, Any] | None = None,
        view: Mapping[str, Any] | None = None,
        transformer: Mapping[str, Any] | None = None,
        pooling: Literal["sum", "mean", "cls"] = "sum",
        temperature: float = 0.2,
        weights: Mapping[str, float] | None = None,
        gene_embeddings: str | pd.DataFrame | None = None,
        n_gene_dims: int = 0,
        freeze_gene_embeddings: bool = True,
        n_start_components: int = 20,
        malignancy_key: str | None = None,
        malignant_category: str | None = None,
    ) -> None:
        super().__init__(adata, registry)
        check_choice("pooling", pooling, ("sum", "mean", "cls"))
        check_positive("temperature", temperature)
        check_count("n_start_components", n_start_components, least=0)
        tokenizer = Tokenizer(**with_defaults("tokens", tokens, TOKENS))
        cell_view = self._view(view, tokenizer)
        transformer = with_defaults("transformer", transformer, TRANSFORMER)
        weights = _checked_weights(with_defaults("weights", weights, WEIGHTS), malignancy=malignancy_key is not None)
        check_malignancy(adata, None if adata is None else self._own_cells().batch, malignancy_key, malignant_category)
        normalize = self._normalizer()
        if tokenizer.target_sum is not None:
            normalize.target_sum.fill_(tokenizer.target_sum)
        genes = self._gene_table(n_latent, gene_embeddings, n_gene_dims, frozen=freeze_gene_embeddings)
        if adata is not None and tokenizer.values == "continuous" and n_start_components:
            genes.start_from(self._loadings(min(n_start_components, n_latent), normalize.weight_g))
        self.module = CellLMModule(
            normalize=normalize,
            genes=genes,
            values=ValueEmbedding(
                n_latent, tokenizer.values, tokenizer.n_bins, hides=cell_view.predict_from == "token"
            ),
            transformer=Transformer(n_latent, **transformer),
            projector=MLP(n_latent, (n_latent,), n_latent, norm="none"),
            tokenizer=tokenizer,
            view=cell_view,
            pooling=pooling,
            temperature=temperature,
            weights=weights,
            dropout_rate=transformer["dropout_rate"],
            malignancy=malignancy_key is not None,
        )
        # a saved model keeps the given vectors with its tensors, and the settings in full
        kept = {"tokens": asdict(tokenizer), "view": asdict(cell_view), "gene_embeddings": None}
        self.init_params_ = self._get_init_params(locals() | kept | {"n_gene_dims": genes.n_given})

    @classmethod
    def paper(cls, adata: AnnData, **options: Any) -> Self:
        """The published sizes: 512 wide, 10 blocks of 16 heads of 64, 6 bins, minibatches of 1,024 by dropout alone.

        On the published 19,379 genes 52 million parameters. Weeks on a CPU. Before training all cells lie at one point:
        blocks start as the identity, and [CLS], which is the embedding here, has seen no gene yet.

        Parameters
        ----------
        adata
            Cells registered with :meth:`setup_anndata`.
        **options
            Arguments of the constructor that differ; of those that group several settings, the settings that do.
        """
        groups = {name: PAPER[name] | options[name] for name in options if isinstance(PAPER.get(name), dict)}
        model = cls(adata, **(PAPER | options | groups))
        plan = {"lr": 1e-4, "weight_decay": 1e-2, "warmup_rate": 0.05}
        model.training = TrainingDefaults(10, 1024, plan=plan, gradient_clip_val=1.0, micro_batch_size="auto")
        return model

    def get_gene_embeddings(self) -> pd.DataFrame:
        """The vector of each gene, (g, n_latent), genes by name."""
        with torch.no_grad():
            return pd.DataFrame(self.module.genes.all().cpu().numpy(), index=self.var_names)

    def get_malignancy_probability(self, adata: AnnData | None = None, batch_size: int | None = None) -> np.ndarray:
        """The probability that a cell is malignant, (n,), of a model that was trained with ``malignancy_key``."""
        self._check_if_trained(warn=False)
        module = self.module
        if module.malignancy is None:
            raise ValueError("the model was built without malignancy_key; it cannot predict malignant cells.")
        head = module.malignancy
        return self._map_cells(lambda cells: torch.sigmoid(head(module.embed(cells))), adata, None, batch_size).ravel()

    def _view(self, view: Mapping[str, Any] | None, tokenizer: Tokenizer) -> CellView:
        """The view of cells with or without counts, whose expression enters as z-scores or bins."""
        has_counts, z_scores = self.setup_arguments["input"] != "log1p", tokenizer.values == "continuous"
        defaults = (
            VIEW | ({} if has_counts else {"thinning_rate": 0.0}) | ({} if z_scores else {"predict_from": "token"})
        )
        found = CellView(**with_defaults("view", view, defaults))
        if found.thinning_rate and not has_counts:
            raise ValueError("thinning_rate acts on raw counts, found input='log1p'; set it to 0.")
        if found.predict_from == "cell" and not z_scores:
            raise ValueError(
                f"predict_from='cell' is for values='continuous', found values={tokenizer.values!r}; take 'token'."
            )
        return found

    def _gene_table(
        self, width: int, gene_embeddings: str | pd.DataFrame | None, n_given: int, *, frozen: bool
    ) -> GeneTable:
        """The vectors of the genes; without cells, given ones come with the saved tensors."""
        if gene_embeddings is None:
            return GeneTable(len(self.var_names), width, n_given=n_given, frozen=frozen)
        given_gw = given_genes(gene_embeddings, self._adata, self.var_names)
        genes = GeneTable(len(self.var_names), width, n_given=given_gw.shape[1], frozen=frozen)
        genes.give(given_gw)
        return genes

    def _loadings(self, n_components: int, weight_g: torch.Tensor) -> torch.Tensor:
        """Loadings of the genes on principal components of the model's cells, (g, n_components)."""
        log_input = self.setup_arguments["input"] == "log1p"
        cells, n_batch = self._own_cells(), self.summary_stats.n_batch
        statistics = batch_statistics(cells, n_batch=n_batch, log_input=log_input)
        return start_loadings(cells, n_components, weight_g, statistics=statistics, log_input=log_input)

    def phases(self, max_epochs: int | None = None) -> Iterator[Phase]:
        """One, on the model's cells with what is known of their malignancy; long cells are logged."""
        cells, params = self._own_cells(), self.plain_init_params()
        length_n, max_genes = _lengths(cells), self.module.max_training_genes
        self._log_cut(length_n, self._adata)
        if max_genes is not None:
            if n_long := int((length_n > max_genes).sum()):
                logger.info("Views show %d genes of %d cells that express more.", max_genes, n_long)
        elif length_n.max() > MANY_TOKENS:
            logger.warning(
                "Cell %r expresses %d genes: attention takes long and much memory; set max_training_genes in tokens=.",
                self._adata.obs_names[length_n.argmax()],
                length_n.max(),
            )
        if params["malignancy_key"] is not None:
            y_n = malignancy_labels(self._adata, params["malignancy_key"], params["malignant_category"])
            cells = cells.beside(**{MALIGNANT: y_n})
        yield Phase(self.module, cells, self.training, max_epochs)

    def _read(self, adata: AnnData, min_coverage: float = 1.0) -> Cells:
        """Read cells; a warning names the first without expressed genes."""
        cells = super()._read(adata, min_coverage)
        length_n = _lengths(cells)
        empty = np.flatnonzero(length_n == 0)
        if "module" in vars(self):  # while the model is built, the module's number of genes is not there yet
            self._log_cut(length_n, adata)
        if len(empty):
            logger.warning(
                "%d cells express none of the model's genes, the first %r: their embedding carries no information; leave them out.",
                len(empty),
                adata.obs_names[empty[0]],
            )
        return cells

    def _log_cut(self, length_n: np.ndarray, adata: AnnData) -> None:
        """Log how many cells express more genes than the embedding takes."""
        max_genes = self.module.max_genes
        long = np.flatnonzero(length_n > (max_genes or np.inf))
        if len(long):
            logger.info(
                "Embeddings are of the %d most expressed genes; %d of the cells express more, %r for example %d.",
                max_genes,
                len(long),
                adata.obs_names[long[0]],
                length_n[long[0]],
            )


def _checked_weights(weights: dict[str, float], *, malignancy: bool) -> dict[str, float]:
    """The weights of the terms, at least 0; an error when no term that can be learnt has any."""
    for name, weight in weights.items():
        check_weight(f"weights[{name!r}]", weight)
    if not any(weight for name, weight in weights.items() if malignancy or name != "malignancy"):
        raise ValueError(f"one of the weights of {', '.join(weights)} is above 0, or there is nothing to learn.")
    return weights


def _lengths(cells: Cells) -> np.ndarray:
    """How many genes each cell expresses, (n,)."""
    return np.concatenate([np.diff(chunk.indptr) for _, chunk in cells.chunks()])
