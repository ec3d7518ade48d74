"""The network of CellLM and its three loss terms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_ssl.losses import nt_xent
from sc_ssl.models.base import ContrastModule
from sc_ssl.train import View

from .malignancy import MALIGNANT
from .tokens import Tokens, drop_tokens, expressed_genes, most_expressed, random_genes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sc_ssl.nn import MLP, LogNormalize, Transformer

    from .inputs import GeneTable, ValueEmbedding
    from .tokens import Tokenizer
    from .view import CellView


#: tokens that are encoded together where no gradient is kept
MAX_TOKENS = 2**15


class CellLMModule(ContrastModule):
    """A transformer on the genes that a cell expresses; their order has no meaning, and no token attends to padding.

    Parameters
    ----------
    normalize, genes, values, transformer, projector
        From counts to z-scores, the vectors of genes, the join of the two, the blocks, the head of the contrast.
    tokenizer, view
        How many genes are tokens, and what a view leaves out.
    pooling
        ``"sum"``, ``"mean"`` or ``"cls"``.
    temperature
        τ of NT-Xent, > 0.
    weights
        Of the terms ``"contrastive"``, ``"masked"`` and ``"malignancy"``.
    dropout_rate
        Share of the tokens' units that training sets to 0.
    malignancy
        Cells have labels of malignancy to learn.
    """

    priority_g: Tensor
    is_continuous = False  # a gene appears and vanishes as a token

    def __init__(
        self,
        *,
        normalize: LogNormalize,
        genes: GeneTable,
        values: ValueEmbedding,
        transformer: Transformer,
        projector: MLP,
        tokenizer: Tokenizer,
        view: CellView,
        pooling: str,
        temperature: float,
        weights: Mapping[str, float],
        dropout_rate: float,
        malignancy: bool,
    ) -> None:
        super().__init__()
        self.normalize, self.genes, self.values = normalize, genes, values
        self.transformer, self.projector = transformer, projector
        self.n_genes, d = genes.n_genes, genes.width
        self.cls_token = nn.Parameter(torch.randn(d) * d**-0.5)
        self.dropout = nn.Dropout(dropout_rate)
        self.max_genes, self.max_training_genes = tokenizer.max_genes, tokenizer.max_training_genes
        self.view, self.pooling, self.temperature, self.weights = view, pooling, temperature, dict(weights)
        self.malignancy = nn.Linear(d, 1) if malignancy else None
        self.query = nn.Linear(d, d) if view.predict_from == "cell" else None
        with torch.no_grad():  # blocks start as the identity: what they add at random drowns the expression in the mean
            for block in transformer.blocks:
                block.attention.out.weight.zero_()
                block.mlp[-1].weight.zero_()
        # the same in every model: which of equally expressed genes are shown is no matter of chance
        priority_g = torch.randperm(self.n_genes, generator=torch.Generator().manual_seed(0))
        self.register_buffer("priority_g", priority_g)

    # the embedding

    def embed(self, cells: Mapping[str, Tensor]) -> Tensor:
        """The pooled output (n, n_latent) of each cell's most expressed genes."""
        return self._read(cells, lambda tokens, h_ntd, real_nt, absent_nd: self.pool(h_ntd, real_nt, absent_nd))

    def expression(self, cells: Mapping[str, Tensor]) -> Tensor:
        """Log-expression (n, g), as a gene at 0 is no token."""
        return self.normalize.log_expression(cells)

    def embed_expression(self, x_ng: Tensor, batch_n1: Tensor) -> Tensor:
        """The embedding (n, d) of cells with this log-expression; an error where it enters as bins, which have no slope."""
        if self.values.values != "continuous":
            raise ValueError(
                f"this model reads expression in bins (tokens={{'values': {self.values.values!r}}}), which have no gradient: its "
                "embedding cannot be traced back to genes. Train one with tokens={'values': 'continuous'}."
            )
        return self.embed({"log": x_ng, "batch": batch_n1})

    def gene_slots(self, cells: Mapping[str, Tensor], slot: nn.Linear) -> Tensor:
        """Each gene's output through ``slot``, at the gene's place; 0 for genes without, [CLS] last, (n, g + 1)."""

        def read(tokens: Tokens, h_ntd: Tensor, real_nt: Tensor, absent_nd: Tensor) -> Tensor:
            # (n, 1 + t, d) → (n, 1 + t, 1) → (n, 1 + t)
            value_nt = slot(self.transformer.norm(h_ntd)).squeeze(2).relu()
            # [CLS] goes to column g; padding to column g + 1, which is cut off
            own_n1 = tokens.gene_nt.new_full((len(value_nt), 1), self.n_genes)
            padded_nt = torch.where(tokens.real_nt, tokens.gene_nt, self.n_genes + 1)
            out_ng = value_nt.new_zeros(len(value_nt), self.n_genes + 2)
            return out_ng.scatter(1, torch.cat([own_n1, padded_nt], dim=1), value_nt)[:, :-1]

        return self._read(cells, read)

    def _read(self, cells: Mapping[str, Tensor], read: Callable[[Tokens, Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        """One row a cell of the blocks' output; cells of like length are encoded together."""
        log_ng = self.normalize.log_expression(cells)
        tokens = self.tokens(log_ng)
        if self.max_genes is not None:
            tokens = most_expressed(tokens, self.max_genes, self.priority_g)
        code, absent_nd = self.code(tokens, log_ng, cells)
        # attention grows with the square of the length: sorted by it, a part has little padding
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
        # parts back in rising length, then rows in the order of the cells
        return torch.cat(parts[::-1])[order.argsort()]

    def tokens(self, log_ng: Tensor) -> Tokens:
        """All genes that the cells express, with log2(1 + normalised counts)."""
        return expressed_genes(log_ng / math.log(2))

    def code(self, tokens: Tokens, log_ng: Tensor, cells: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The tokens' values as they are encoded, and the sum of cells of these batches without any gene, (n, d).

        A value is the distance of the gene's z-score from that of a cell without the gene: over the expressed genes
        alone, the sum of values times vectors and that of the empty cell make the sum over all genes.
        """
        absent_ng = self.normalize.standardize(torch.zeros_like(log_ng), cells)
        code = self.values.code(tokens, self.normalize.standardize(log_ng, cells) - absent_ng)
        # (n, g) @ (g, d) → (n, d); bins have no such sum
        return code, absent_ng @ self.genes.all() * (self.values.values == "continuous")

    def encode(self, tokens: Tokens, code: Tensor, hidden_nt: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The blocks' output for [CLS] and each token, (n, 1 + t, d), and where there is a token, (n, 1 + t)."""
        token_ntd = self.values(self.genes(tokens.gene_nt), code, hidden_nt)
        # [CLS] before the genes: (d,) → (n, 1, d), joined to (n, t, d)
        token_ntd = torch.cat([self.cls_token.expand(len(token_ntd), 1, -1), token_ntd], dim=1)
        real_nt = F.pad(tokens.real_nt, (1, 0), value=True)
        # where no cell has padding, attention needs no mask
        h_ntd = self.transformer.unnormed(self.dropout(token_ntd), None if bool(real_nt.all()) else real_nt)
        return h_ntd, real_nt

    def pool(self, h_ntd: Tensor, real_nt: Tensor, absent_nd: Tensor, share_n1: Tensor | float = 1.0) -> Tensor:
        """One vector a cell, (n, d); tokens are summed before the norm, which would take the expression from them.

        Of a cell that shows only a share of its genes, the sum over all is estimated.
        """
        if self.pooling == "cls":
            return self.transformer.norm(h_ntd[:, 0])
        # without padding and [CLS]: (n, 1 + t, d) → (n, t, d) → (n, d)
        total_nd = (h_ntd * real_nt[..., None])[:, 1:].sum(dim=1)
        if self.pooling == "mean":
            return self.transformer.norm(total_nd / (real_nt.sum(dim=1, keepdim=True) - 1).clamp(min=1))
        return self.transformer.norm(total_nd / share_n1 + absent_nd)

    # the loss

    def encode_view(self, cells: Mapping[str, Tensor]) -> View:
        """Cells with fewer counts and genes: projected for the contrast, with the error of what is predicted of them."""
        # a view: fewer molecules, then fewer of the genes that are left, then some values hidden
        thinned = self.view.thin(cells)
        log_ng = self.normalize.log_expression(thinned)
        whole = self.tokens(log_ng)
        tokens = self.draw(whole)
        code, absent_nd = self.code(tokens, log_ng, thinned)
        masked_nt, hidden_nt = self.view.mask(tokens)
        # its embedding, for the sum over all genes scaled by the share of them that is shown
        h_ntd, real_nt = self.encode(tokens, code, hidden_nt)
        share_n1 = tokens.real_nt.sum(dim=1, keepdim=True) / whole.real_nt.sum(dim=1, keepdim=True).clamp(min=1)
        pooled_nd = self.pool(h_ntd, real_nt, absent_nd, share_n1.clamp(min=1e-6))
        # terms that each cell has alone, as a sum and a number of entries; the contrast comes when all cells are there
        if masked_nt is None:
            error, n_masked = self.unseen_error(pooled_nd, tokens, cells)
        else:
            error = self.values.error(self.transformer.norm(h_ntd[:, 1:][masked_nt]), code[masked_nt])
            n_masked = masked_nt.sum()
        sums, counts = {"masked": self.weights["masked"] * error}, {"masked": n_masked}
        if self.malignancy is not None:
            error, n_labelled = self.malignancy_error(pooled_nd, cells[MALIGNANT])
            sums["malignancy"], counts["malignancy"] = self.weights["malignancy"] * error, n_labelled
        return View(self.projector(pooled_nd), sums, counts)

    def draw(self, tokens: Tokens) -> Tokens:
        """A random part of the genes that a cell expresses."""
        tokens = drop_tokens(tokens, self.view.gene_dropout_rate, self.n_genes)
        if self.max_training_genes is None:
            return tokens
        return random_genes(tokens, self.max_training_genes, self.n_genes)

    def unseen_error(self, pooled_nd: Tensor, tokens: Tokens, cells: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Squared error, summed, of the z-scores of all genes that a view does not show; and how many these are.

        A gene's prediction is the product of its vector with a linear map of the cell's, as scGPT's from the cell.
        """
        z_ng = self.normalize.standardize(self.normalize.log_expression(cells), cells)
        # 1 but for the genes of tokens; padding writes to column g, which is cut off
        unseen_ng = z_ng.new_ones(len(z_ng), self.n_genes + 1).scatter_(1, tokens.gene_nt, 0)[:, :-1]
        if "measured" in cells:
            unseen_ng = unseen_ng * cells["measured"]
        # (n, d) @ (d, g) → (n, g)
        predicted_ng = self.query(pooled_nd) @ self.genes.all().T
        return ((predicted_ng - z_ng).square() * unseen_ng).sum(), unseen_ng.sum()

    def malignancy_error(self, pooled_nd: Tensor, label_n1: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy, summed, of the labels of cells that have one (1, 0, else NaN); and how many these are."""
        y_n = label_n1.flatten()
        labelled_n = torch.isfinite(y_n)
        logit_n = self.malignancy(pooled_nd).flatten()
        error = F.binary_cross_entropy_with_logits(logit_n[labelled_n], y_n[labelled_n], reduction="sum")
        return error, labelled_n.sum()

    def contrast(self, views: list[Tensor]) -> dict[str, Tensor]:
        """NT-Xent of the projected views."""
        return {"contrastive": self.weights["contrastive"] * nt_xent(*views, self.temperature)}

    def order(self, cells: Mapping[str, Tensor]) -> Tensor:
        """Cells of like length together, so that there is little padding."""
        return (cells["X"] > 0).sum(dim=1).argsort(stable=True)
