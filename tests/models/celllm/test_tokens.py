"""Tokens: only expressed genes, their bins, and which are left out."""

import pytest
import torch

from sc_ssl.models.celllm.tokens import (
    drop_tokens,
    expressed_genes,
    keep_tokens,
    log2_bins,
    most_expressed,
    quantile_bins,
    random_genes,
)


def sparse_cells(n=7, g=30, rate=0.4):
    return torch.poisson(torch.full((n, g), 2.0)) * (torch.rand(n, g) < rate)


def to_dense(tokens, n_genes):
    x_ng = torch.zeros(len(tokens.gene_nt), n_genes + 1)
    x_ng.scatter_(1, tokens.gene_nt, tokens.value_nt)
    assert not x_ng[:, n_genes].any()
    return x_ng[:, :n_genes]


def test_tokens_hold_the_expression_and_nothing_else():
    x_ng = sparse_cells()
    tokens = expressed_genes(x_ng)
    assert torch.equal(to_dense(tokens, 30), x_ng)
    assert torch.equal(tokens.real_nt.sum(1), (x_ng > 0).sum(1))
    assert tokens.gene_nt.shape[1] == int((x_ng > 0).sum(1).max())
    assert (tokens.gene_nt[~tokens.real_nt] == 30).all()


def test_a_cell_without_counts_has_no_token():
    x_ng = sparse_cells()
    x_ng[3] = 0
    assert not expressed_genes(x_ng).real_nt[3].any()
    assert expressed_genes(torch.zeros(2, 5)).gene_nt.shape == (2, 0)


def test_kept_tokens_are_padded_anew():
    x_ng = sparse_cells()
    tokens = expressed_genes(x_ng)
    kept = keep_tokens(tokens, tokens.value_nt > 1, 30)
    assert torch.equal(to_dense(kept, 30), x_ng * (x_ng > 1))
    assert kept.real_nt.any(0).all()


def test_log2_bins_of_known_counts():
    # a cell of 10,000 counts: x = count, log2(1 + x) of 1, 2, 3, 7, 31, 1000 is 1, 1.58, 2, 3, 5, 9.97
    count = torch.tensor([[0.5, 1.0, 2.0, 3.0, 7.0, 31.0, 1000.0]])
    tokens = expressed_genes(torch.log1p(count) / torch.log(torch.tensor(2.0)))
    assert log2_bins(tokens, 6).tolist() == [[0, 1, 1, 2, 3, 5, 5]]


def test_quantile_bins_are_shares_of_the_cells_own_genes():
    tokens = expressed_genes(torch.tensor([[4.0, 1.0, 0.0, 3.0, 2.0], [5.0, 0.0, 0.0, 0.0, 5.0]]))
    assert quantile_bins(tokens, 2)[0].tolist() == [1, 0, 1, 0]
    assert quantile_bins(tokens, 2)[1, :2].tolist() == [0, 0]  # equal values share the lowest bin


def test_depth_moves_log2_bins_but_not_quantile_bins():
    x_ng = sparse_cells(rate=0.9)
    shallow, deep = expressed_genes(x_ng), expressed_genes(x_ng * 8)
    assert torch.equal(quantile_bins(shallow, 5), quantile_bins(deep, 5))
    assert not torch.equal(log2_bins(shallow, 6), log2_bins(deep, 6))


def test_the_most_expressed_genes_are_kept():
    x_ng = torch.tensor([[1.0, 5.0, 2.0, 2.0, 2.0], [0.0, 0.0, 1.0, 0.0, 0.0]])
    kept = most_expressed(expressed_genes(x_ng), 2, torch.tensor([4, 3, 2, 1, 0]))
    # among the genes of count 2 the one of smallest priority
    assert to_dense(kept, 5).tolist() == [[0, 5, 0, 0, 2], [0, 0, 1, 0, 0]]


def test_genes_left_out_do_not_follow_their_place_in_the_list():
    tokens = expressed_genes(torch.ones(1, 1000))
    priority = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    kept = most_expressed(tokens, 100, priority).gene_nt
    assert 300 < kept.float().mean() < 700
    assert torch.equal(kept, most_expressed(tokens, 100, priority).gene_nt)


def test_random_genes_are_drawn_whatever_their_expression():
    x_ng = torch.tensor([1.0, 3.0]).repeat(4000, 1)
    drawn = random_genes(expressed_genes(x_ng), 1, 2).gene_nt.float().mean()
    assert abs(drawn - 0.5) < 0.03
    tokens = random_genes(expressed_genes(sparse_cells(rate=0.9)), 5, 30)
    assert tokens.gene_nt.shape == (7, 5)
    assert all(len(set(row.tolist())) == 5 for row in tokens.gene_nt)


def test_dropped_tokens_leave_one_gene_at_least():
    x_ng = sparse_cells(n=200)
    x_ng[:, 0] = 1
    kept = to_dense(drop_tokens(expressed_genes(x_ng), 0.9, 30), 30)
    assert (kept > 0).any(1).all()
    assert torch.equal(kept[kept > 0], x_ng[kept > 0])
    assert 0.05 < (kept > 0).sum() / (x_ng > 0).sum() < 0.25
    with pytest.raises(ValueError, match=r"\[0, 1\), found 1"):
        drop_tokens(expressed_genes(x_ng), 1, 30)
