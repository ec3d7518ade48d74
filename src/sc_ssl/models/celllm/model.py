"""CellLM (Zhao, Zhang & Nie 2023, arXiv 2306.04371)."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np
import pandas as pd
import torch

from sc_ssl._checks import check_choice
from sc_ssl._logging import logger
from sc_ssl.models.base import Phase, SSLModel, TrainingDefaults
from sc_ssl.nn import MLP, Transformer

from .inputs import GeneTable, ValueEmbedding, Values, given_genes, start_loadings
from .malignancy import MALIGNANT, malignancy_labels, warn_of_batches
from .module import CellLMModule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData

    from sc_ssl.data import Cells


CHOICES = {"values": get_args(Values), "predict_from": ("cell", "token"), "pooling": ("sum", "mean", "cls")}
#: of what is counted, where that is not 1
LEAST = {"n_bins": 2, "n_start_components": 0}
#: largest share of molecules that a view leaves out, where there are counts
THINNING_RATE = 0.5
#: what is known of the published model; the other settings were never released
PAPER: dict[str, Any] = {
    "n_hidden": 512,
    "n_layers": 10,
    "n_heads": 16,
    "head_width": 64,
    "values": "log2",
    "n_bins": 6,
    "target_sum": 1e4,
    "max_genes": 5999,
    "max_training_genes": 5999,
    "pooling": "cls",
    "temperature": 0.05,
    "contrastive_weight": 1.0,
    "gene_dropout_rate": 0.0,
    "thinning_rate": 0.0,
}


def check_settings(
    *,
    choices: dict[str, str],
    counts: dict[str, int | None],
    mask_rate: float,
    temperature: float,
    shares: dict[str, float],
    weights: dict[str, float],
) -> None:
    """Refuse settings that cannot be, by name."""
    for name, choice in choices.items():
        check_choice(name, choice, CHOICES[name])
    if choices["predict_from"] == "cell" and (values := choices["values"]) != "continuous":
        raise ValueError(f"predict_from='cell' is for values='continuous', found values={values!r}; take 'token'.")
    for name, count in counts.items():
        least = LEAST.get(name, 1)
        if count is not None and (not isinstance(count, Integral) or count < least):
            raise ValueError(f"{name} is a whole number, at least {least}, found {count}.")
    if not 0 < mask_rate <= 1:
        raise ValueError(f"mask_rate lies in (0, 1], found {mask_rate}.")
    if not temperature > 0:
        raise ValueError(f"temperature is above 0, found {temperature}.")
    for name, weight in weights.items():
        if not weight >= 0:
            raise ValueError(f"{name} is at least 0, found {weight}.")
    if not any(weights.values()):
        raise ValueError(f"one of {', '.join(weights)} is above 0, or there is nothing to learn.")
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise ValueError(f"{name} lies in [0, 1), found {share}.")


#: more tokens a cell than this take long: attention grows with their square
MANY_TOKENS = 4096


class CellLM(SSLModel):
    """CellLM: a transformer on the genes that a cell expresses, trained on large minibatches; key ``X_celllm``.

    Three pretext terms: two views of a cell shall be nearer to each other than to all other cells of the minibatch;
    the hidden expression of some genes is predicted from the others; and, where the labels are there, malignant cells
    are told from others. The minibatch may be much larger than memory allows (``train(micro_batch_size=...)``, exact;
    see :class:`~sc_ssl.train.ChunkedContrastPlan`).

    Departs from the paper and its released encoder: exact attention on the genes that are there instead of an
    approximation on 6,000 padded places, which is cheaper below about 3,000 genes (2,000 at the default width); padding
    that no token sees; [MASK] has a code of its own; genes of a long cell are left out by their expression and not by
    their place in the list; views are random parts of a cell's genes and molecules and not dropout alone; by default
    z-scores instead of bins; blocks that start as the identity, and vectors of genes that start as loadings of
    principal components, so that the sum of a cell's tokens starts as its components; hidden expression predicted from
    the cell's vector, as scGPT does (Cui et al. 2024); sizes for a CPU. The code of the pretraining was never released:
    temperature, mask rate and weights are ours, with a small one for the contrast. :meth:`paper` gives the published
    sizes.

    Parameters
    ----------
    adata
        Cells registered with :meth:`setup_anndata`.
    registry
        Instead of ``adata``: the registry of a saved model.
    n_hidden, n_layers, n_heads
        Width of the tokens and the embedding, blocks, and heads a block.
    head_width
        Width of a head, by default ``n_hidden / n_heads``.
    attention
        ``"exact"``, or ``"performer"``: random features, linear in the number of genes.
    dropout_rate
        Share of the tokens' and the blocks' units that training sets to 0, in [0, 1).
    values
        How expression enters: ``"continuous"`` (weighed z-scores of log1p within a batch, from that of a gene without
        counts, which multiply the gene's vector and go through a small network), ``"quantile"`` (bins among the
        cell's own genes) or ``"log2"`` (bins ⌊log2(1 + x)⌋, as published: few of them in shallow cells).
    n_bins
        Number of bins, ≥ 2.
    target_sum
        Library size (counts) that cells are brought to for bins and for the choice of genes, by default the median of
        the training cells, which z-scores need.
    max_genes
        Genes of a cell that are shown for embedding, the most expressed ones; ``None`` shows all.
    max_training_genes
        Genes of a cell that a view shows, drawn at random; ``None`` shows all.
    gene_embeddings
        Given vectors of genes: key of ``varm``, or a table, genes by name in its index; of any scale. A linear map, which
        is learnt, adds them to the start from components; without one (``n_start_components=0``, or bins) they alone
        make a gene's vector, as published, and those of genes that the table lacks, or whose row has NaN, are learnt.
    n_gene_dims
        Width of the given vectors; read from them.
    n_start_components
        Learnt vectors of genes start as their loadings on so many principal components of the training cells, at most
        ``n_hidden``, with ``values="continuous"``; 0 starts at random.
    freeze_gene_embeddings
        Given vectors stay as they are; what is learnt beside them is not frozen.
    pooling
        ``"sum"`` over all tokens and, for z-scores, over what genes without expression would add; ``"mean"`` of the
        tokens; or ``"cls"``.
    temperature
        τ of NT-Xent, > 0.
    predict_from
        How hidden expression is predicted: from the ``"cell"``'s vector, the z-scores of all genes that a view does not
        show, whether expressed or not (the default for z-scores); or as published from the gene's own ``"token"``,
        whose value is hidden (the default for bins).
    mask_rate
        Share of the tokens whose value is predicted from the token, in (0, 1].
    gene_dropout_rate
        Share of a cell's genes that a view leaves out, in [0, 1).
    thinning_rate
        Largest share of molecules that a view leaves out, in [0, 1), so that depth tells no cell from another; by
        default 0.5, without counts 0.
    contrastive_weight, masked_weight, malignancy_weight
        Of the terms. At equal weights, which :meth:`paper` has, NT-Xent drowns the error of the z-scores.
    malignancy_key
        Column of ``obs`` that says which cells are malignant: booleans, or names with ``malignant_category``; missing
        values are unknown. Without, there is no such term. Where ``batch_key`` tells nearly the same, this is warned about.
    malignant_category
        The name that means malignant.

    References
    ----------
    Zhao, Zhang & Nie (2023), Large-scale cell representation learning via divide-and-conquer contrastive learning,
    arXiv 2306.04371. Gao et al. (2021), Scaling deep contrastive learning batch size under memory limited setup,
    arXiv 2101.06983. Cui et al. (2024), scGPT, Nature Methods 21:1470.
    """

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
        n_hidden: int = 64,
        n_layers: int = 2,
        n_heads: int = 4,
        head_width: int | None = None,
        attention: Literal["exact", "performer"] = "exact",
        dropout_rate: float = 0.1,
        values: Values = "continuous",
        n_bins: int = 6,
        target_sum: float | None = None,
        max_genes: int | None = 512,
        max_training_genes: int | None = 64,
        gene_embeddings: str | pd.DataFrame | None = None,
        n_gene_dims: int = 0,
        freeze_gene_embeddings: bool = True,
        n_start_components: int = 20,
        pooling: Literal["sum", "mean", "cls"] = "sum",
        temperature: float = 0.2,
        predict_from: Literal["cell", "token"] | None = None,
        mask_rate: float = 0.15,
        gene_dropout_rate: float = 0.2,
        thinning_rate: float | None = None,
        contrastive_weight: float = 0.03,
        masked_weight: float = 1.0,
        malignancy_weight: float = 1.0,
        malignancy_key: str | None = None,
        malignant_category: str | None = None,
    ) -> None:
        super().__init__(adata, registry)
        predict_from = predict_from or ("cell" if values == "continuous" else "token")
        if thinning_rate is None:
            thinning_rate = 0.0 if self.setup_arguments["input"] == "log1p" else THINNING_RATE
        shares = {"dropout_rate": dropout_rate, "gene_dropout_rate": gene_dropout_rate, "thinning_rate": thinning_rate}
        check_settings(
            choices={"values": values, "predict_from": predict_from, "pooling": pooling},
            counts={
                "n_bins": n_bins,
                "max_genes": max_genes,
                "max_training_genes": max_training_genes,
                "n_start_components": n_start_components,
            },
            mask_rate=mask_rate,
            temperature=temperature,
            shares=shares,
            weights={
                "contrastive_weight": contrastive_weight,
                "masked_weight": masked_weight,
                "malignancy_weight": malignancy_weight if malignancy_key is not None else 0.0,
            },
        )
        if shares["thinning_rate"] and self.setup_arguments["input"] == "log1p":
            raise ValueError("thinning_rate acts on raw counts, found input='log1p'; set it to 0.")
        n_genes = len(self.var_names)
        given_gw = None
        if gene_embeddings is not None:
            given_gw = given_genes(gene_embeddings, self._adata, self.var_names)
        n_gene_dims = given_gw.shape[1] if given_gw is not None else n_gene_dims
        gene_embeddings = None  # the model keeps them with its tensors
        genes = GeneTable(n_genes, n_hidden, n_given=n_gene_dims, frozen=freeze_gene_embeddings)
        if given_gw is not None:
            genes.give(given_gw)
        normalize = self._normalizer()
        if adata is not None and values == "continuous" and n_start_components:
            options = {"n_batch": self.summary_stats.n_batch, "log_input": self.setup_arguments["input"] == "log1p"}
            genes.start_from(
                start_loadings(self._own_cells(), min(n_start_components, n_hidden), normalize.weight_g, **options)
            )
        if target_sum is not None and values == "continuous":
            raise ValueError(
                "target_sum is for values='log2' or 'quantile'; z-scores are of the training cells' median."
            )
        if target_sum is not None:
            normalize.target_sum.fill_(target_sum)
        if malignancy_key is None and malignant_category is not None:
            raise ValueError(f"malignant_category={malignant_category!r} is of a column: name it with malignancy_key.")
        if malignancy_key is not None and adata is not None:
            y_n = malignancy_labels(adata, malignancy_key, malignant_category)
            warn_of_batches(y_n, self._own_cells().batch, malignancy_key)
        sizes: dict[str, Any] = {"dropout_rate": dropout_rate, "head_width": head_width, "attention": attention}
        self.module = CellLMModule(
            normalize=normalize,
            genes=genes,
            values=ValueEmbedding(n_hidden, values, n_bins, hides=predict_from == "token"),
            transformer=Transformer(n_hidden, n_layers, n_heads, **sizes),
            projector=MLP(n_hidden, (n_hidden,), n_hidden, norm="none"),
            n_hidden=n_hidden,
            n_genes=n_genes,
            max_genes=max_genes,
            max_training_genes=max_training_genes,
            pooling=pooling,
            **shares,
            predict_from=predict_from,
            mask_rate=mask_rate,
            temperature=temperature,
            weights={"contrastive": contrastive_weight, "masked": masked_weight, "malignancy": malignancy_weight},
            malignancy=malignancy_key is not None,
        )
        self.init_params_ = self._get_init_params(locals())

    @classmethod
    def paper(cls, adata: AnnData, **options: Any) -> Self:
        """The published sizes: 512 wide, 10 blocks of 16 heads of 64, 6 bins, minibatches of 1,024 by dropout alone.

        On the published 19,379 genes 52 million parameters. Weeks on a CPU. Before training all cells lie at one point:
        blocks start as the identity, and [CLS], which is the embedding here, has seen no gene yet.
        """
        model = cls(adata, **(PAPER | options))
        plan = {"lr": 1e-4, "weight_decay": 1e-2, "warmup_rate": 0.05}
        model.training = TrainingDefaults(10, 1024, plan=plan, gradient_clip_val=1.0, micro_batch_size="auto")
        return model

    def get_gene_embeddings(self) -> pd.DataFrame:
        """The vector of each gene, (g, n_hidden), genes by name."""
        with torch.no_grad():
            return pd.DataFrame(self.module.genes.all().cpu().numpy(), index=self.var_names)

    def get_malignancy_probability(self, adata: AnnData | None = None, batch_size: int | None = None) -> np.ndarray:
        """The probability that a cell is malignant, (n,), of a model that was trained with ``malignancy_key``."""
        self._check_if_trained(warn=False)
        module = self.module
        if module.malignancy is None:
            raise ValueError("the model was built without malignancy_key; it cannot tell malignant cells.")
        head = module.malignancy
        return self._map_cells(lambda cells: torch.sigmoid(head(module.embed(cells))), adata, None, batch_size).ravel()

    def phases(self, max_epochs: int | None = None) -> Iterator[Phase]:
        """One, on the model's cells with what is known of their malignancy; long cells are logged."""
        cells, params = self._own_cells(), self.plain_init_params()
        length_n, max_genes = _lengths(cells), self.module.max_training_genes
        self._tell_cut(length_n, self._adata)
        if max_genes is not None:
            if n_long := int((length_n > max_genes).sum()):
                logger.info("Views show %d genes of %d cells that express more.", max_genes, n_long)
        elif length_n.max() > MANY_TOKENS:
            logger.warning(
                "Cell %r expresses %d genes: attention takes long and much memory; set max_training_genes.",
                self._adata.obs_names[length_n.argmax()],
                length_n.max(),
            )
        if params["malignancy_key"] is not None:
            y_n = malignancy_labels(self._adata, params["malignancy_key"], params["malignant_category"])
            cells = cells.beside(**{MALIGNANT: y_n})
        yield Phase(self.module, cells, self.training, max_epochs)

    def _read(self, adata: AnnData, min_coverage: float = 1.0) -> Cells:
        """Read cells; those without expressed genes are named."""
        cells = super()._read(adata, min_coverage)
        length_n = _lengths(cells)
        empty = np.flatnonzero(length_n == 0)
        if "module" in vars(self):  # else it is not known yet what an embedding shows
            self._tell_cut(length_n, adata)
        if len(empty):
            logger.warning(
                "%d cells express none of the model's genes, the first %r: their embedding says nothing; leave them out.",
                len(empty),
                adata.obs_names[empty[0]],
            )
        return cells

    def _tell_cut(self, length_n: np.ndarray, adata: AnnData) -> None:
        """Say of how many cells the embedding leaves genes out."""
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


def _lengths(cells: Cells) -> np.ndarray:
    """How many genes each cell expresses, (n,)."""
    return np.concatenate([np.diff(chunk.indptr) for _, chunk in cells.chunks()])
