"""The network and the loss of CellLM."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_ssl.losses import nt_xent
from sc_ssl.models.base import ContrastModule
from sc_ssl.train import View
from sc_ssl.views import binomial_thinning

from .malignancy import MALIGNANT
from .tokens import Tokens, drop_tokens, expressed_genes, most_expressed, random_genes

if TYPE_CHECKING:
    from collections.abc import Callable

    from sc_ssl.nn import MLP, LogNormalize, Transformer

    from .inputs import GeneTable, ValueEmbedding


#: share of the masked tokens whose value is hidden, as in scBERT; the others are only predicted
HIDDEN_RATE = 0.9
#: tokens that are encoded together where no gradient is kept
MAX_TOKENS = 2**15


class CellLMModule(ContrastModule):
    """A transformer on the genes that a cell expresses; order means nothing, and padding is seen by no one."""

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
        predict_from: str,
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
        self.query = nn.Linear(n_hidden, n_hidden) if predict_from == "cell" else None
        with torch.no_grad():  # blocks start as the identity: what they add at random drowns the expression in the mean
            for block in transformer.blocks:
                block.attention.out.weight.zero_()
                block.mlp[-1].weight.zero_()
        # the same in every model: which of equally expressed genes are shown is no matter of chance
        priority_g = torch.randperm(n_genes, generator=torch.Generator().manual_seed(0))
        self.register_buffer("priority_g", priority_g)

    # the embedding

    def embed(self, cells: dict[str, Tensor]) -> Tensor:
        """The pooled output (n, n_hidden) of each cell's most expressed genes."""
        return self._read(cells, lambda tokens, h_ntd, real_nt, absent_nd: self.pool(h_ntd, real_nt, absent_nd))

    def gene_slots(self, cells: dict[str, Tensor], slot: nn.Linear) -> Tensor:
        """What ``slot`` makes of each gene's output, at the gene's place; 0 for genes without, [CLS] last, (n, g + 1)."""

        def read(tokens: Tokens, h_ntd: Tensor, real_nt: Tensor, absent_nd: Tensor) -> Tensor:
            value_nt = slot(self.transformer.norm(h_ntd)).squeeze(2).relu()
            own_n1 = tokens.gene_nt.new_full((len(value_nt), 1), self.n_genes)
            padded_nt = torch.where(tokens.real_nt, tokens.gene_nt, self.n_genes + 1)
            out_ng = value_nt.new_zeros(len(value_nt), self.n_genes + 2)
            return out_ng.scatter(1, torch.cat([own_n1, padded_nt], dim=1), value_nt)[:, :-1]

        return self._read(cells, read)

    def _read(self, cells: dict[str, Tensor], read: Callable[[Tokens, Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        """One row a cell of the blocks' output; cells of like length go together."""
        log_ng = self.normalize.log_expression(cells)
        tokens = self.tokens(log_ng)
        if self.max_genes is not None:
            tokens = most_expressed(tokens, self.max_genes, self.priority_g)
        code, absent_nd = self.code(tokens, log_ng, cells)
        length_n = tokens.real_nt.sum(dim=1)
        order = length_n.argsort(stable=True)
        parts, stop = [], len(order)
        while stop > 0:  # the longest cells first: a part is as long as its last cell
            t = int(length_n[order[stop - 1]])
            start = max(stop - max(MAX_TOKENS // (t + 1), 1), 0)
            index = order[start:stop]
            part = Tokens(*(entry[index, :t] for entry in tokens))
            parts.append(read(part, *self.encode(part, code[index, :t]), absent_nd[index]))
            stop = start
        return torch.cat(parts[::-1])[order.argsort()]

    def tokens(self, log_ng: Tensor) -> Tokens:
        """All genes that the cells express, with log2(1 + normalised counts)."""
        return expressed_genes(log_ng / math.log(2))

    def code(self, tokens: Tokens, log_ng: Tensor, cells: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The tokens' values as they are encoded, and what cells of these batches without any gene sum to, (n, d).

        A value is how far the gene's z-score is from that of a cell without the gene: over the expressed genes alone,
        the sum of values times vectors and that of the empty cell make the sum over all genes.
        """
        absent_ng = self.normalize.standardize(torch.zeros_like(log_ng), cells)
        code = self.values.code(tokens, self.normalize.standardize(log_ng, cells) - absent_ng)
        return code, absent_ng @ self.genes.all() * (self.values.values == "continuous")

    def encode(self, tokens: Tokens, code: Tensor, hidden_nt: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the blocks make of [CLS] and each token, (n, 1 + t, d), and where there is one, (n, 1 + t)."""
        token_ntd = self.values(self.genes(tokens.gene_nt), code, hidden_nt)
        token_ntd = torch.cat([self.cls_token.expand(len(token_ntd), 1, -1), token_ntd], dim=1)
        real_nt = F.pad(tokens.real_nt, (1, 0), value=True)
        h_ntd = self.transformer.unnormed(self.dropout(token_ntd), None if bool(real_nt.all()) else real_nt)
        return h_ntd, real_nt

    def pool(self, h_ntd: Tensor, real_nt: Tensor, absent_nd: Tensor, share_n1: Tensor | float = 1.0) -> Tensor:
        """One vector a cell, (n, d); tokens are summed before the norm, which would take the expression from them.

        Of a cell that shows only a share of its genes, the sum over all is estimated.
        """
        if self.pooling == "cls":
            return self.transformer.norm(h_ntd[:, 0])
        total_nd = (h_ntd * real_nt[..., None])[:, 1:].sum(dim=1)
        if self.pooling == "mean":
            return self.transformer.norm(total_nd / (real_nt.sum(dim=1, keepdim=True) - 1).clamp(min=1))
        return self.transformer.norm(total_nd / share_n1 + absent_nd)

    # the loss

    def encode_view(self, cells: dict[str, Tensor]) -> View:
        """Cells with fewer counts and genes; projected for the contrast, and what is hidden predicted."""
        whole_cells, cells = cells, self.thin(cells)
        log_ng = self.normalize.log_expression(cells)
        whole = self.tokens(log_ng)
        tokens = self.draw(whole)
        share_n1 = tokens.real_nt.sum(dim=1, keepdim=True) / whole.real_nt.sum(dim=1, keepdim=True).clamp(min=1)
        code, absent_nd = self.code(tokens, log_ng, cells)
        masked_nt = hidden_nt = None
        if self.query is None:
            masked_nt = tokens.real_nt & (torch.rand_like(tokens.value_nt) < self.mask_rate)
            hidden_nt = masked_nt & (torch.rand_like(tokens.value_nt) < HIDDEN_RATE)
        h_ntd, real_nt = self.encode(tokens, code, hidden_nt)
        pooled_nd = self.pool(h_ntd, real_nt, absent_nd, share_n1.clamp(min=1e-6))
        if masked_nt is None:
            error, n_masked = self.unseen_error(pooled_nd, tokens, whole_cells)
        else:
            error = self.values.error(self.transformer.norm(h_ntd[:, 1:][masked_nt]), code[masked_nt])
            n_masked = masked_nt.sum()
        sums, counts = {"masked": self.weights["masked"] * error}, {"masked": n_masked}
        if self.malignancy is not None:
            y_n = cells[MALIGNANT].flatten()
            labelled = torch.isfinite(y_n)
            logit_n = self.malignancy(pooled_nd).flatten()
            error = F.binary_cross_entropy_with_logits(logit_n[labelled], y_n[labelled], reduction="sum")
            sums["malignancy"], counts["malignancy"] = self.weights["malignancy"] * error, labelled.sum()
        return View(self.projector(pooled_nd), sums, counts)

    def unseen_error(self, pooled_nd: Tensor, tokens: Tokens, cells: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Squared error, summed, of the z-scores of all genes that a view does not show; and how many these are.

        A gene's prediction is the product of its vector with a linear map of the cell's, as scGPT's from the cell.
        """
        z_ng = self.normalize.standardize(self.normalize.log_expression(cells), cells)
        unseen_ng = z_ng.new_ones(len(z_ng), self.n_genes + 1).scatter_(1, tokens.gene_nt, 0)[:, :-1]
        if "measured" in cells:
            unseen_ng = unseen_ng * cells["measured"]
        predicted_ng = self.query(pooled_nd) @ self.genes.all().T
        return ((predicted_ng - z_ng).square() * unseen_ng).sum(), unseen_ng.sum()

    def thin(self, cells: dict[str, Tensor]) -> dict[str, Tensor]:
        """The cells as a shallower sequencing would have seen them."""
        if not self.thinning_rate:
            return cells
        keep_n1 = (1 - self.thinning_rate) ** torch.rand_like(cells["library_size"])
        counts_ng = binomial_thinning(cells["X"], keep_n1)
        return cells | {"X": counts_ng, "library_size": cells["library_size"] * keep_n1}

    def draw(self, tokens: Tokens) -> Tokens:
        """A random part of what a cell expresses."""
        tokens = drop_tokens(tokens, self.gene_dropout_rate, self.n_genes)
        return (
            tokens if self.max_training_genes is None else random_genes(tokens, self.max_training_genes, self.n_genes)
        )

    def contrast(self, views: list[Tensor]) -> dict[str, Tensor]:
        """NT-Xent of the projected views."""
        return {"contrastive": self.weights["contrastive"] * nt_xent(*views, self.temperature)}

    def order(self, cells: dict[str, Tensor]) -> Tensor:
        """Cells of like length together, so that there is little padding."""
        return (cells["X"] > 0).sum(dim=1).argsort(stable=True)
