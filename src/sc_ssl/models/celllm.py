"""CellLM (Zhao, Zhang & Nie 2023, arXiv 2306.04371)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_ssl._logging import logger
from sc_ssl.losses import nt_xent
from sc_ssl.nn import MLP, GeneTable, LogNormalize, Transformer
from sc_ssl.train import View
from sc_ssl.views import (
    Tokens,
    binomial_thinning,
    drop_tokens,
    expressed_genes,
    log2_bins,
    most_expressed,
    quantile_bins,
    random_genes,
)

from ._base import SSLModel
from ._contrast import ContrastModule
from ._malignancy import malignancy_labels, warn_of_batches
from ._training import TrainingDefaults

if TYPE_CHECKING:
    from anndata import AnnData

    from sc_ssl.data import Cells

Values = Literal["continuous", "quantile", "log2"]
VALUES = ("continuous", "quantile", "log2")
#: share of the masked tokens whose value is hidden, as in scBERT; the others are only predicted
HIDDEN_RATE = 0.9
#: largest share of molecules that a view leaves out, where there are counts
THINNING_RATE = 0.5
#: tokens that are encoded together where no gradient is kept
MAX_TOKENS = 2**15
#: more tokens a cell than this take long: attention grows with their square
MANY_TOKENS = 4096
#: minibatches' name for the labels: 1 malignant, 0 not, NaN unknown
MALIGNANT = "malignant"
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
    "gene_dropout_rate": 0.0,
    "thinning_rate": 0.0,
}


class ValueEmbedding(nn.Module):
    """How much of a gene is there, joined to the gene's vector; and the way back, from an output to the value.

    The vector of a bin is added, as published. A z-score also multiplies the gene's vector: the mean of a cell's tokens
    is then, before anything is learnt, a random projection of its expression, in which no gene outweighs the others.
    """

    def __init__(self, width: int, values: Values, n_bins: int) -> None:
        super().__init__()
        self.values, self.n_bins = values, n_bins
        self.mask_token = nn.Parameter(torch.randn(width) * width**-0.5)
        if values == "continuous":
            last = nn.Linear(width, width)
            nn.init.zeros_(last.weight)  # what all tokens share outweighs, in their mean, what each gene says
            nn.init.zeros_(last.bias)
            self.encode: nn.Module = nn.Sequential(nn.Linear(1, width), nn.GELU(), last)
        else:
            self.encode = nn.Embedding(n_bins, width)
            nn.init.normal_(self.encode.weight, std=width**-0.5)
        self.decode = nn.Linear(width, 1 if values == "continuous" else n_bins)

    def code(self, tokens: Tokens, z_ng: Tensor) -> Tensor:
        """What is encoded and predicted: z-scores of the tokens' genes (n, t, 1), or bins (n, t)."""
        if self.values == "continuous":
            return F.pad(z_ng, (0, 1)).gather(1, tokens.gene_nt)[..., None]
        return (log2_bins if self.values == "log2" else quantile_bins)(tokens, self.n_bins)

    def forward(self, gene_ntd: Tensor, code: Tensor, hidden_nt: Tensor | None = None) -> Tensor:
        """Tokens (n, t, d) of genes' vectors and values; a hidden value is [MASK]'s."""
        value_ntd = self.encode(code)
        shown_ntd = gene_ntd * code + value_ntd if self.values == "continuous" else gene_ntd + value_ntd
        return (
            shown_ntd if hidden_nt is None else torch.where(hidden_nt[..., None], gene_ntd + self.mask_token, shown_ntd)
        )

    def error(self, h_md: Tensor, code_m: Tensor) -> Tensor:
        """Cross-entropy of the bins, or Huber's loss of z-scores, whose tails are long; summed."""
        if self.values == "continuous":
            return F.smooth_l1_loss(self.decode(h_md), code_m, reduction="sum")
        return F.cross_entropy(self.decode(h_md), code_m, reduction="sum")


class CellLMModule(ContrastModule):
    """A transformer on the genes that a cell expresses; order means nothing, and padding is seen by no one."""

    reads_counts = True
    priority_g: Tensor

    def __init__(
        self,
        *,
        normalize: LogNormalize,
        genes: GeneTable,
        values: ValueEmbedding,
        transformer: Transformer,
        projector: MLP,
        n_hidden: int,
        n_genes: int,
        max_genes: int | None,
        max_training_genes: int | None,
        pooling: str,
        dropout_rate: float,
        gene_dropout_rate: float,
        thinning_rate: float,
        mask_rate: float,
        temperature: float,
        weights: dict[str, float],
        malignancy: bool,
    ) -> None:
        super().__init__()
        self.normalize, self.genes, self.values = normalize, genes, values
        self.transformer, self.projector = transformer, projector
        self.cls_token = nn.Parameter(torch.randn(n_hidden) * n_hidden**-0.5)
        self.dropout = nn.Dropout(dropout_rate)
        self.n_genes, self.max_genes, self.max_training_genes = n_genes, max_genes, max_training_genes
        self.pooling, self.temperature, self.weights = pooling, temperature, weights
        self.gene_dropout_rate, self.thinning_rate, self.mask_rate = gene_dropout_rate, thinning_rate, mask_rate
        self.malignancy = nn.Linear(n_hidden, 1) if malignancy else None
        with torch.no_grad():  # blocks start as the identity: what they add at random drowns the expression in the mean
            for block in transformer.blocks:
                block.attention.out.weight.zero_()
                block.mlp[-1].weight.zero_()
        # the same in every model: which of equally expressed genes are shown is no matter of chance
        priority_g = torch.randperm(n_genes, generator=torch.Generator().manual_seed(0))
        self.register_buffer("priority_g", priority_g)

    # the embedding

    def embed(self, cells: dict[str, Tensor]) -> Tensor:
        """The pooled output (n, n_hidden) of each cell's most expressed genes; cells of like length go together."""
        tokens = self.tokens(cells)
        if self.max_genes is not None:
            tokens = most_expressed(tokens, self.max_genes, self.priority_g)
        code = self.code(tokens, cells)
        length_n = tokens.real_nt.sum(dim=1)
        order = length_n.argsort(stable=True)
        parts, stop = [], len(order)
        while stop > 0:  # the longest cells first: a part is as long as its last cell
            t = int(length_n[order[stop - 1]])
            start = max(stop - max(MAX_TOKENS // (t + 1), 1), 0)
            index = order[start:stop]
            part = Tokens(*(entry[index, :t] for entry in tokens))
            parts.append(self.pool(*self.encode(part, code[index, :t])))
            stop = start
        pooled_nd = torch.cat(parts[::-1])
        return pooled_nd[order.argsort()]

    def tokens(self, cells: dict[str, Tensor]) -> Tokens:
        """All genes that the cells express, with log2(1 + normalised counts)."""
        return expressed_genes(self.normalize.log_expression(cells) / np.log(2))

    def code(self, tokens: Tokens, cells: dict[str, Tensor]) -> Tensor:
        """The tokens' values as they are encoded; z-scores are those of the cells' own batches."""
        return self.values.code(tokens, self.normalize.standardize(self.normalize.log_expression(cells), cells))

    def encode(self, tokens: Tokens, code: Tensor, hidden_nt: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the blocks make of [CLS] and each token, (n, 1 + t, d), and where there is one, (n, 1 + t)."""
        token_ntd = self.values(self.genes(tokens.gene_nt), code, hidden_nt)
        token_ntd = torch.cat([self.cls_token.expand(len(token_ntd), 1, -1), token_ntd], dim=1)
        real_nt = F.pad(tokens.real_nt, (1, 0), value=True)
        h_ntd = self.transformer.unnormed(self.dropout(token_ntd), None if bool(real_nt.all()) else real_nt)
        return h_ntd, real_nt

    def pool(self, h_ntd: Tensor, real_nt: Tensor) -> Tensor:
        """One vector a cell, (n, d); tokens are averaged before the norm, which would take the expression from them."""
        if self.pooling == "cls":
            return self.transformer.norm(h_ntd[:, 0])
        return self.transformer.norm((h_ntd * real_nt[..., None]).sum(dim=1) / real_nt.sum(dim=1, keepdim=True))

    # the loss

    def encode_view(self, cells: dict[str, Tensor]) -> View:
        """Cells with fewer counts and genes, some of whose values are hidden; projected for the contrast."""
        cells = self.thin(cells)
        tokens = self.draw_tokens(cells)
        code = self.code(tokens, cells)
        masked_nt = tokens.real_nt & (torch.rand_like(tokens.value_nt) < self.mask_rate)
        hidden_nt = masked_nt & (torch.rand_like(tokens.value_nt) < HIDDEN_RATE)
        h_ntd, real_nt = self.encode(tokens, code, hidden_nt)
        pooled_nd = self.pool(h_ntd, real_nt)
        error = self.values.error(self.transformer.norm(h_ntd[:, 1:][masked_nt]), code[masked_nt])
        sums, counts = {"masked": self.weights["masked"] * error}, {"masked": masked_nt.sum()}
        if self.malignancy is not None:
            y_n = cells[MALIGNANT].flatten()
            labelled = torch.isfinite(y_n)
            logit_n = self.malignancy(pooled_nd).flatten()
            error = F.binary_cross_entropy_with_logits(logit_n[labelled], y_n[labelled], reduction="sum")
            sums["malignancy"], counts["malignancy"] = self.weights["malignancy"] * error, labelled.sum()
        return View(self.projector(pooled_nd), sums, counts)

    def thin(self, cells: dict[str, Tensor]) -> dict[str, Tensor]:
        """The cells as a shallower sequencing would have seen them."""
        if not self.thinning_rate:
            return cells
        keep_n1 = (1 - self.thinning_rate) ** torch.rand_like(cells["size_factor"])
        counts_ng = binomial_thinning(cells["X"], keep_n1)
        return cells | {"X": counts_ng, "size_factor": cells["size_factor"] * keep_n1}

    def draw_tokens(self, cells: dict[str, Tensor]) -> Tokens:
        """A random part of what a cell expresses."""
        tokens = drop_tokens(self.tokens(cells), self.gene_dropout_rate, self.n_genes)
        return (
            tokens if self.max_training_genes is None else random_genes(tokens, self.max_training_genes, self.n_genes)
        )

    def contrast(self, views: list[Tensor]) -> dict[str, Tensor]:
        """NT-Xent of the projected views."""
        return {"contrastive": self.weights["contrastive"] * nt_xent(*views, self.temperature)}

    def order(self, cells: dict[str, Tensor]) -> Tensor:
        """Cells of like length together, so that there is little padding."""
        return (cells["X"] > 0).sum(dim=1).argsort(stable=True)


class CellLM(SSLModel):
    """CellLM: a transformer on the genes that a cell expresses, trained on large minibatches; key ``X_celllm``.

    Three pretext terms: two views of a cell shall be nearer to each other than to all other cells of the minibatch;
    the hidden expression of some genes is predicted from the others; and, where the labels are there, malignant cells
    are told from others. The minibatch may be much larger than memory allows (``train(micro_batch_size=...)``, exact;
    see :class:`~sc_ssl.train.ChunkedContrastPlan`).

    Departs from the paper and its released encoder: exact attention on the genes that are there instead of an
    approximation on 6,000 padded places, which is cheaper below about 3,000 genes; padding that no token sees; [MASK]
    has a code of its own; genes of a long cell are left out by their expression and not by their place in the list;
    views are random parts of a cell's genes and molecules and not dropout alone; by default z-scores instead of bins;
    blocks that start as the identity; sizes for a CPU. The code of the pretraining was
    never released: temperature, mask rate and weights are ours. :meth:`paper` gives the published sizes.

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
        How expression enters: ``"continuous"`` (weighed z-scores of log1p within a batch, which multiply the gene's
        vector and go through a small network), ``"quantile"`` (bins among the
        cell's own genes) or ``"log2"`` (bins ⌊log2(1 + x)⌋, as published: few of them in shallow cells).
    n_bins
        Number of bins, ≥ 2.
    target_sum
        Library size (counts) that cells are brought to for bins and for the choice of genes, by default the median of
        the training cells, which z-scores need.
    max_genes
        Genes of a cell that are shown for embedding, the most expressed ones; ``None`` shows all.
    max_training_genes
        Genes of a cell that a view shows, drawn in proportion to log-expression; ``None`` shows all.
    gene_embeddings
        Given vectors of genes: key of ``varm``, or a table, genes by name in its index. Genes that it lacks, or whose
        row has NaN, are learnt.
    n_gene_dims
        Width of the given vectors; read from them.
    freeze_gene_embeddings
        Given vectors stay as they are.
    pooling
        ``"mean"`` of all tokens, or ``"cls"``.
    temperature
        τ of NT-Xent, > 0.
    mask_rate
        Share of the tokens whose value is predicted, in (0, 1].
    gene_dropout_rate
        Share of a cell's genes that a view leaves out, in [0, 1).
    thinning_rate
        Largest share of molecules that a view leaves out, in [0, 1), so that depth tells no cell from another; by
        default 0.5, without counts 0.
    contrastive_weight, masked_weight, malignancy_weight
        Of the terms.
    malignancy_key
        Column of ``obs`` that says which cells are malignant: booleans, or names with ``malignant_category``; missing
        values are unknown. Without, there is no such term.
    malignant_category
        The name that means malignant.

    References
    ----------
    Zhao, Zhang & Nie (2023), Large-scale cell representation learning via divide-and-conquer contrastive learning,
    arXiv 2306.04371. Gao et al. (2021), Scaling deep contrastive learning batch size under memory limited setup,
    arXiv 2101.06983.
    """

    training = TrainingDefaults(
        max_epochs=6,
        batch_size=128,
        min_steps=150,
        plan={"lr": 2e-3, "weight_decay": 1e-2, "warmup_rate": 0.1},
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
        max_training_genes: int | None = 128,
        gene_embeddings: str | pd.DataFrame | None = None,
        n_gene_dims: int = 0,
        freeze_gene_embeddings: bool = True,
        pooling: Literal["mean", "cls"] = "mean",
        temperature: float = 0.2,
        mask_rate: float = 0.15,
        gene_dropout_rate: float = 0.2,
        thinning_rate: float | None = None,
        contrastive_weight: float = 1.0,
        masked_weight: float = 1.0,
        malignancy_weight: float = 1.0,
        malignancy_key: str | None = None,
        malignant_category: str | None = None,
    ) -> None:
        super().__init__(adata, registry)
        if thinning_rate is None:
            thinning_rate = 0.0 if self.setup_arguments["input"] == "log1p" else THINNING_RATE
        shares = {"dropout_rate": dropout_rate, "gene_dropout_rate": gene_dropout_rate, "thinning_rate": thinning_rate}
        self._check(values, n_bins, pooling, mask_rate, (max_genes, max_training_genes), temperature, shares)
        n_genes = len(self.var_names)
        given_gw = self._given(gene_embeddings)
        n_gene_dims = given_gw.shape[1] if given_gw is not None else n_gene_dims
        gene_embeddings = None  # the model keeps them with its tensors
        genes = GeneTable(n_genes, n_hidden, n_given=n_gene_dims, frozen=freeze_gene_embeddings)
        if given_gw is not None:
            genes.give(given_gw)
        normalize = self._normalizer()
        if target_sum is not None and values == "continuous":
            raise ValueError(
                "target_sum is for values='log2' or 'quantile'; z-scores are of the training cells' median."
            )
        if target_sum is not None:
            normalize.target_sum.fill_(target_sum)
        if malignancy_key is not None and adata is not None:
            y_n = malignancy_labels(adata, malignancy_key, malignant_category)
            warn_of_batches(y_n, self._own_cells().batch, malignancy_key)
        sizes: dict[str, Any] = {"dropout_rate": dropout_rate, "head_width": head_width, "attention": attention}
        self.module = CellLMModule(
            normalize=normalize,
            genes=genes,
            values=ValueEmbedding(n_hidden, values, n_bins),
            transformer=Transformer(n_hidden, n_layers, n_heads, **sizes),
            projector=MLP(n_hidden, (n_hidden,), n_hidden, norm="none"),
            n_hidden=n_hidden,
            n_genes=n_genes,
            max_genes=max_genes,
            max_training_genes=max_training_genes,
            pooling=pooling,
            **shares,
            mask_rate=mask_rate,
            temperature=temperature,
            weights={"contrastive": contrastive_weight, "masked": masked_weight, "malignancy": malignancy_weight},
            malignancy=malignancy_key is not None,
        )
        self.init_params_ = self._get_init_params(locals())

    @classmethod
    def paper(cls, adata: AnnData, **options: Any) -> Self:
        """The published sizes: 512 wide, 10 blocks of 16 heads of 64, 6 bins, minibatches of 1,024 by dropout alone.

        On the published 19,379 genes 52 million parameters. Weeks on a CPU.
        """
        model = cls(adata, **(PAPER | options))
        plan = {"lr": 1e-4, "weight_decay": 1e-2, "warmup_rate": 0.05}
        model.training = TrainingDefaults(10, 1024, plan=plan, gradient_clip_val=1.0, micro_batch_size="auto")
        return model

    def get_gene_embeddings(self) -> pd.DataFrame:
        """The vector of each gene, (g, n_hidden), genes by name."""
        with torch.no_grad():
            gene_g = torch.arange(len(self.var_names), device=self.device)
            vectors_gd = self.module.genes(gene_g[:, None])[:, 0]
        return pd.DataFrame(vectors_gd.cpu().numpy(), index=self.var_names)

    def get_malignancy_probability(self, adata: AnnData | None = None, batch_size: int | None = None) -> np.ndarray:
        """The probability that a cell is malignant, (n,), of a model that was trained with ``malignancy_key``."""
        self._check_if_trained(warn=False)
        module = self.module
        if module.malignancy is None:
            raise ValueError("the model was built without malignancy_key; it cannot tell malignant cells.")
        head = module.malignancy
        return self._map_cells(lambda cells: torch.sigmoid(head(module.embed(cells))), adata, None, batch_size).ravel()

    def _training_cells(self, **fit_options: Any) -> Cells:
        """The model's cells, with what is known of their malignancy; long cells are spoken of."""
        cells, params = self._own_cells(), self.plain_init_params()
        length_n, max_genes = _lengths(cells), self.module.max_training_genes
        if max_genes is not None:
            n_long = int((length_n > max_genes).sum())
            logger.info("Views show %d genes of %d cells that express more.", max_genes, n_long)
        elif length_n.max() > MANY_TOKENS:
            logger.warning(
                "Cell %r expresses %d genes: attention takes long and much memory; set max_training_genes.",
                self._adata.obs_names[length_n.argmax()],
                length_n.max(),
            )
        if params["malignancy_key"] is None:
            return cells
        y_n = malignancy_labels(self._adata, params["malignancy_key"], params["malignant_category"])
        return cells.beside(**{MALIGNANT: y_n})

    def _read(self, adata: AnnData, min_coverage: float = 1.0) -> Cells:
        """Read cells; those without expressed genes are named."""
        cells = super()._read(adata, min_coverage)
        empty = np.flatnonzero(_lengths(cells) == 0)
        if len(empty):
            logger.warning(
                "%d cells express none of the model's genes, the first %r: their embedding says nothing; leave them out.",
                len(empty),
                adata.obs_names[empty[0]],
            )
        return cells

    def _given(self, gene_embeddings: str | pd.DataFrame | None) -> Tensor | None:
        """Given vectors in the model's order of genes, (g, w), NaN for those that are lacking."""
        if gene_embeddings is None:
            return None
        if isinstance(gene_embeddings, str):
            if gene_embeddings not in self._adata.varm:
                raise KeyError(f"{gene_embeddings!r} is not in adata.varm, which has {', '.join(self._adata.varm)}.")
            gene_embeddings = pd.DataFrame(np.asarray(self._adata.varm[gene_embeddings]), index=self._adata.var_names)
        table = gene_embeddings.reindex(self.var_names).to_numpy(dtype=np.float32, copy=True)
        lacking = np.flatnonzero(~np.isfinite(table).all(axis=1))
        if len(lacking) == len(table):
            raise ValueError(
                f"gene_embeddings has none of the model's genes, such as {self.var_names[0]!r}; its index has names "
                f"such as {gene_embeddings.index[0]!r}. Use the same kind of gene names."
            )
        if len(lacking):
            examples = ", ".join(repr(self.var_names[g]) for g in lacking[:3])
            logger.warning(
                "%d of %d genes have no given vector and learn one: %s …", len(lacking), len(table), examples
            )
        return torch.as_tensor(table)

    def _check(
        self,
        values: str,
        n_bins: int,
        pooling: str,
        mask_rate: float,
        lengths: tuple[int | None, int | None],
        temperature: float,
        shares: dict[str, float],
    ) -> None:
        if values not in VALUES:
            raise ValueError(f"values is one of {', '.join(VALUES)}, found {values!r}.")
        if pooling not in ("mean", "cls"):
            raise ValueError(f"pooling is 'mean' or 'cls', found {pooling!r}.")
        if n_bins < 2 or any(length is not None and length < 1 for length in lengths):
            raise ValueError(
                f"n_bins is at least 2, max_genes and max_training_genes 1, found {n_bins}, {lengths[0]} and {lengths[1]}."
            )
        if not 0 < mask_rate <= 1:
            raise ValueError(f"mask_rate lies in (0, 1], found {mask_rate}.")
        if not temperature > 0:
            raise ValueError(f"temperature is above 0, found {temperature}.")
        for name, share in shares.items():
            if not 0 <= share < 1:
                raise ValueError(f"{name} lies in [0, 1), found {share}.")
        if shares["thinning_rate"] and self.setup_arguments["input"] == "log1p":
            raise ValueError("thinning_rate acts on raw counts, found input='log1p'; set it to 0.")


def _lengths(cells: Cells) -> np.ndarray:
    """How many genes each cell expresses, (n,)."""
    return np.concatenate([np.diff(chunk.indptr) for _, chunk in cells.chunks()])
