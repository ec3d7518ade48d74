"""Vectors of genes from a graph: what is a graph, what is learnt, where it is written, what is refused."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData

from sc_ssl.pp import ppi_gene_embeddings
from sc_ssl.pp._graph_mae import scaled_cosine_error
from sc_ssl.pp.ppi_gene_embeddings import adjacency_svd, read_graph

QUICK = {"n_dims": 16, "n_features": 8, "max_epochs": 30}


@pytest.fixture
def edges():
    """Two groups of twelve genes that interact within their group, and one interaction between them."""
    rng = np.random.default_rng(0)
    pairs = [
        (f"{group}{i}", f"{group}{j}") for group in "AB" for i in range(12) for j in range(i) if rng.random() < 0.5
    ]
    return pd.DataFrame([*pairs, ("A0", "B0")], columns=["gene1", "gene2"])


def test_a_graph_has_each_interaction_in_both_directions_once(edges, tmp_path):
    repeated = pd.concat(
        [edges, edges.iloc[:, ::-1].set_axis(edges.columns, axis=1), pd.DataFrame({"gene1": ["A1"], "gene2": ["A1"]})]
    )
    nodes, edge_2e = read_graph(repeated)
    assert set(nodes) == {*edges["gene1"], *edges["gene2"]}
    assert edge_2e.shape == (2, 2 * len(edges))
    found = {tuple(nodes[list(pair)]) for pair in edge_2e.T}
    assert found == {*edges.itertuples(index=False, name=None), *edges.iloc[:, ::-1].itertuples(index=False, name=None)}
    edges.assign(score=1.0).to_csv(tmp_path / "edges.tsv.gz", sep="\t", index=False)
    np.testing.assert_array_equal(read_graph(tmp_path / "edges.tsv.gz")[1], edge_2e)
    edges.assign(score=1.0).to_csv(tmp_path / "bare.csv", index=False, header=False)  # its first line is an interaction
    np.testing.assert_array_equal(read_graph(tmp_path / "bare.csv")[1], edge_2e)
    with pytest.raises(TypeError, match="a DataFrame or the path of a file, found list"):
        read_graph([("A1", "B1")])


def test_features_span_the_normalised_adjacency(edges):
    nodes, edge_2e = read_graph(edges)
    n = len(nodes)
    a = np.eye(n)
    a[edge_2e[0], edge_2e[1]] = 1
    a /= np.sqrt(np.outer(a.sum(0), a.sum(0)))
    values, vectors = np.linalg.eigh(a)
    top = np.argsort(-np.abs(values))[:5]
    feature_vf = adjacency_svd(edge_2e, n, 5)
    np.testing.assert_allclose(
        feature_vf @ feature_vf.T, (vectors[:, top] * np.abs(values[top])) @ vectors[:, top].T, atol=1e-5
    )


def test_error_is_one_minus_the_cosine_to_the_third():
    a, b = torch.tensor([[3.0, 0.0], [1.0, 1.0]]), torch.tensor([[2.0, 0.0], [0.0, 5.0]])
    assert scaled_cosine_error(a, b).item() == pytest.approx((0 + (1 - 0.5**0.5) ** 3) / 2)


def test_interacting_genes_come_near_each_other_and_the_rest_is_unknown(edges):
    pytest.importorskip("torch_geometric")
    genes = ["A1", "B1", "nowhere", "A2", "B2"]
    table = ppi_gene_embeddings(genes, edges, **QUICK)
    assert list(table.index) == genes and table.shape == (5, 16)
    assert table.loc["nowhere"].isna().all()
    unit = table.dropna() / np.linalg.norm(table.dropna(), axis=1)[:, None]
    cosine = unit @ unit.T
    assert min(cosine.loc["A1", "A2"], cosine.loc["B1", "B2"]) > max(cosine.loc["A1", "B2"], cosine.loc["A2", "B1"])


def test_training_lowers_the_error_on_hidden_genes_and_hides_them_from_the_decoder(edges):
    pytest.importorskip("torch_geometric")
    from sc_ssl.pp._graph_mae import GraphMAE, train_graph_mae

    _, edge_2e = read_graph(edges)
    x_vf, edge_2e = torch.as_tensor(adjacency_svd(edge_2e, 24, 8)), torch.as_tensor(edge_2e)
    _, losses = train_graph_mae(x_vf, edge_2e, n_dims=16, mask_rate=0.5, max_epochs=100, lr=1e-2)
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    alone = torch.empty(2, 0, dtype=torch.long)  # without neighbours a hidden gene's own features are out of reach
    model = GraphMAE(8, 16, 0.5)
    torch.manual_seed(1)
    first = model.loss(x_vf, alone)
    order = torch.manual_seed(1) and torch.randperm(24)
    changed = x_vf.clone()
    changed[order[12:]] += 1  # those that are shown
    torch.manual_seed(1)
    assert model.loss(changed, alone).item() == pytest.approx(first.item(), abs=1e-6)


def test_it_is_written_into_varm_and_celllm_takes_it(edges, build_counts):
    pytest.importorskip("torch_geometric")
    from small_models import SMALL

    from sc_ssl.models import CellLM

    adata = build_counts(n_genes=24)
    adata.var_names = [*(f"A{i}" for i in range(12)), *(f"C{i}" for i in range(12))]
    state = torch.get_rng_state()
    copied = ppi_gene_embeddings(adata, edges, **QUICK, copy=True)
    assert not adata.varm
    assert ppi_gene_embeddings(adata, edges, **QUICK) is None
    assert torch.equal(torch.get_rng_state(), state)
    pd.testing.assert_frame_equal(adata.varm["X_ppi"], copied.varm["X_ppi"])
    assert adata.varm["X_ppi"].isna().all(axis=1).sum() == 12
    CellLM.setup_anndata(adata)
    model = CellLM(adata, gene_embeddings="X_ppi", **SMALL["CellLM"])
    assert model.module.genes.known_g.sum() == 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edges": pd.DataFrame({"gene1": ["A1"]})}, r"edges need two columns of genes .* found shape \(1, 1\)"),
        (
            {"adata": ["ENSG1", "ENSG2"]},
            "edges name none of the 2 genes; they have names such as 'A0', the genes such as 'ENSG1'",
        ),
        ({"edges": pd.DataFrame({"gene1": ["A1"], "gene2": ["A1"]})}, "two different genes, found none in 1 rows"),
        (
            {"edges": pd.DataFrame({"gene": ["A1"], "score": [0.9], "other": ["A2"]})},
            "name genes, found numbers such as 0.9 in 'score'",
        ),
        ({"n_dims": 10}, "n_dims is a multiple of 4"),
        ({"mask_rate": 1.0}, r"mask_rate lies in \(0, 1\)"),
    ],
)
def test_bad_input_is_refused(edges, change, message):
    with pytest.raises(ValueError, match=message):
        ppi_gene_embeddings(**{"adata": ["A1"], "edges": edges, "n_dims": 16} | change)


def test_without_torch_geometric_the_extra_is_named(edges, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_geometric", None)
    adata = AnnData(np.ones((3, 1), np.float32), var=pd.DataFrame(index=["A1"]))
    with pytest.raises(ImportError, match=r'pip install "sc_ssl\[ppi\]"'):
        ppi_gene_embeddings(adata, edges)
    assert not adata.varm
