"""Splits, scores and pages of the drug and interaction tasks of ``benchmarks.quality celllm``."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from benchmarks.quality import data
from benchmarks.quality.__main__ import main
from benchmarks.quality.celllm import bulk_to_cells, deepcdr, drug_lines, drug_sc, ppi
from benchmarks.quality.celllm import screen as screens


@pytest.fixture
def screen():
    """60 lines × 12 drugs of two kinds; expression determines which lines respond to which kind."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 20))
    kind = np.arange(12) % 2
    y = 3.0 * kind + np.where(kind == 0, x[:, [0]], x[:, [1]]) + 0.1 * rng.normal(size=(60, 12))
    y[rng.random(y.shape) < 0.1] = np.nan
    lines, drugs = [f"line_{i}" for i in range(60)], [f"drug_{j}" for j in range(12)]
    smiles = ["C" * (j + 1) + ("O" if kind[j] else "N(=O)=O") for j in range(12)]
    return screens.Screen(
        pd.DataFrame(x, lines).add_prefix("gene_"), pd.DataFrame(y, lines, drugs), pd.Series(smiles, drugs)
    )


@pytest.mark.parametrize("split", drug_lines.SPLITS)
def test_what_is_tested_is_not_trained_on(screen, split):
    y_nm = screen.y_nm.to_numpy()
    train_nm, test_nm = drug_lines.divide(y_nm, split, 0)
    assert not (train_nm & test_nm).any()
    assert np.isfinite(y_nm[train_nm | test_nm]).all()
    if split == "cold both":
        assert not train_nm[test_nm.any(axis=1)].any() and not train_nm[:, test_nm.any(axis=0)].any()
        assert test_nm.any()
    else:
        np.testing.assert_array_equal(train_nm | test_nm, np.isfinite(y_nm))
    if split == "cold cell":
        assert not (train_nm.any(axis=1) & test_nm.any(axis=1)).any()
    if split == "cold drug":
        assert not (train_nm.any(axis=0) & test_nm.any(axis=0)).any()


def test_scores_of_a_perfect_and_of_a_drugs_mean(screen):
    y_nm = screen.y_nm.to_numpy()
    _, test_nm = drug_lines.divide(y_nm, "cold cell", 0)
    perfect = drug_lines.score(y_nm, np.nan_to_num(y_nm), test_nm)
    assert perfect == pytest.approx({"rmse": 0, "r2": 1, "pearson": 1, "pearson_per_drug": 1})
    mean = drug_lines.score(y_nm, screens.drug_mean(screen, 0).astype(np.float32), test_nm)
    assert mean["pearson"] > 0.7 and mean["pearson_per_drug"] == 0


def test_simple_rows_use_lines_and_structure(screen, monkeypatch):
    pytest.importorskip("rdkit")
    for split, least in (("warm", 0.9), ("cold cell", 0.9), ("cold drug", 0.6), ("cold both", 0.6)):
        train_nm, test_nm = drug_lines.divide(screen.y_nm.to_numpy(), split, 1)
        predicted = screens.ridge(screen.showing(train_nm), 0)
        found = drug_lines.score(screen.y_nm.to_numpy(), predicted, test_nm)
        assert found["pearson"] > least
    monkeypatch.setattr(deepcdr, "N_EPOCHS", 150)
    train_nm, test_nm = drug_lines.divide(screen.y_nm.to_numpy(), "cold cell", 1)
    predicted = screens.deepcdr(screen.showing(train_nm), 0)
    assert drug_lines.score(screen.y_nm.to_numpy(), predicted, test_nm)["pearson"] > 0.8


def test_additive_mean_knows_how_sensitive_a_line_is(screen):
    y_nm = np.add.outer(np.arange(60.0), 100.0 * np.arange(12))
    exact = screens.Screen(screen.x_ng, pd.DataFrame(y_nm, screen.x_ng.index, screen.y_nm.columns), screen.smiles_m)
    np.testing.assert_allclose(screens.additive_mean(exact, 0), y_nm)


def resistant_cells():
    rng = np.random.default_rng(0)
    resistant = np.arange(60) % 3 == 0
    x = np.maximum(rng.normal(size=(60, 30)) + 2 * np.outer(resistant, np.arange(30) < 8), 0)
    obs = pd.DataFrame({"drug_response": np.where(resistant, "resistant", "sensitive"), "cell_type": "A"})
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    return AnnData(z.astype(np.float32), obs=obs.set_index(obs.index.astype(str)))


def test_draws_are_stratified_and_scores_are_of_the_resistant():
    cells = drug_sc.Cells(resistant_cells())
    assert cells.adata.X.min() == 0  # z-scores are shifted to where nothing was found
    train = drug_sc.draw_train(cells.resistant_n, 0.05, 0)
    assert len(train) == 3 and cells.resistant_n[train].sum() == 1
    assert len(drug_sc.draw_train(cells.resistant_n, 0.8, 0)) == 48
    score = drug_sc.score(np.array([True, True, False, False]), np.array([0.9, 0.2, 0.6, 0.1]))
    assert score == pytest.approx({"f1_resistant": 0.5, "macro_f1": 0.5, "auroc": 0.75, "auprc": 0.5 + 0.5 * 2 / 3})


@pytest.mark.parametrize("row", ["genes + logistic", "genes + forest", "PCA + logistic", "PCA + kNN"])
def test_rows_tell_resistant_cells(row):
    cells = drug_sc.Cells(resistant_cells())
    train = drug_sc.draw_train(cells.resistant_n, 0.8, 0)
    proba_n = drug_sc.ROWS[row](cells, train, 0)
    test = np.setdiff1d(np.arange(60), train)
    assert drug_sc.score(cells.resistant_n[test], proba_n[test])["auroc"] > 0.9


def test_lines_are_ranked_by_drug():
    lines = list(bulk_to_cells.LINES)
    truth = pd.DataFrame({"Gefitinib": [-4.0, 2, 1, np.nan, 1.5], "Other": [0.0, 1, np.nan, np.nan, 2]}, index=lines)
    right = bulk_to_cells.score(truth.fillna(0), truth)
    assert right["hcc827_first"] == 1 and right["egfr_spearman"] == pytest.approx(1)
    assert right["hcc827_margin"] == pytest.approx(4 / truth["Gefitinib"].fillna(0).std())
    wrong = bulk_to_cells.score(-truth.fillna(0), truth)
    assert wrong["hcc827_first"] == 0 and wrong["all_drugs_spearman"] == pytest.approx(-1)
    constant = bulk_to_cells.score(truth * 0, truth)
    assert constant["hcc827_first"] == 0 and constant["all_drugs_spearman"] == 0


@pytest.fixture
def graph():
    rng = np.random.default_rng(0)
    block = np.kron(np.eye(3), np.ones((20, 20)))
    row, column = np.nonzero(np.triu((rng.random((60, 60)) < 0.4) * block, 1))
    edge_2e = np.concatenate([[row, column], [column, row]], axis=1)
    return pd.Index([f"gene_{i}" for i in range(60)]), edge_2e


def test_held_out_interactions_are_told_from_others(graph, monkeypatch):
    genes, edge_2e = graph
    train_2e, held_2e = ppi.hold_out(edge_2e, 0)
    assert held_2e.shape[1] == round(0.1 * edge_2e.shape[1] / 2)

    def as_pairs(edges):
        return {tuple(pair) for pair in edges.T}

    assert not as_pairs(train_2e) & as_pairs(held_2e)
    assert as_pairs(train_2e) | as_pairs(held_2e) | as_pairs(held_2e[::-1]) == as_pairs(edge_2e)
    monkeypatch.setattr(ppi, "resource", lambda name: None)
    pathways = {f"group_{b}": list(genes[20 * b : 20 * b + 20]) for b in range(3)}
    monkeypatch.setattr(ppi, "read_programs", lambda path: pathways)
    known = ppi.score(ppi.svd(3)(genes, train_2e, 0), genes, edge_2e, held_2e, 0)
    assert known["edge_auroc"] > 0.8 and known["reactome_enrichment"] > 2.5
    chance = ppi.score(ppi.chance(genes, train_2e, 0), genes, edge_2e, held_2e, 0)
    assert 0.3 < chance["edge_auroc"] < 0.7 and 0.7 < chance["reactome_enrichment"] < 1.3


def test_a_response_that_does_not_tell_two_kinds_apart_is_refused():
    cells = resistant_cells()
    with pytest.raises(
        ValueError, match=r"obs\['answer'\] .* is not there, obs has drug_response, cell_type; .* --response"
    ):
        drug_sc.Cells(cells, "answer")
    with pytest.raises(ValueError, match="should be 'none' in two cells at least .* found 'resistant', 'sensitive'"):
        drug_sc.Cells(cells, "drug_response", "none")


def test_files_that_a_task_reads_are_asked_for_first(screen, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SC_SSL_DATA", str(tmp_path))
    lines = AnnData(screen.x_ng.to_numpy(), obs=pd.DataFrame({"cell_type": "x"}, index=screen.x_ng.index))
    monkeypatch.setattr(data, "load_all", lambda name: lines)
    for task, missing in (("ppi", "ppi_string850"), ("drug_lines", "drug_smiles"), ("drug_sc", "celllines_ccle_gdsc")):
        with pytest.raises(SystemExit):
            main(["celllm", "--task", task, "--out", str(tmp_path / "out")])
        assert f"{missing}" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["celllm", "--task", "dnc", "--methods", "GraphMAE", "--out", str(tmp_path / "out")])
    assert "no row is named GraphMAE. There are: divided; end to end" in capsys.readouterr().err
    monkeypatch.setattr(data, "resource", lambda name: None)
    monkeypatch.setattr(screens, "load_all", lambda name: lines)
    for task, said in (
        ("ppi", "has graphs of its own, ppi_string850_tgsa706_human, ppi_string_highconf_cellchat_human; found pollen"),
        ("drug_lines", "pollen should be a drug screen"),
    ):
        with pytest.raises(SystemExit):
            main(["celllm", "--task", task, "--datasets", "pollen", "--out", str(tmp_path / "out")])
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_tasks_are_resumed_and_write_their_pages(screen, graph, tmp_path, monkeypatch):
    lines = AnnData(screen.x_ng.to_numpy(), obs=pd.DataFrame({"cell_type": "x"}, index=screen.x_ng.index))
    monkeypatch.setattr(data, "load_all", lambda name: lines)
    monkeypatch.setattr(data, "resource", lambda name: None)
    monkeypatch.setattr(screens.Screen, "read", classmethod(lambda cls, name: screen))
    arguments = ["celllm", "--task", "drug_lines", "--seeds", "1", "--out", str(tmp_path), "--methods", "drug mean"]
    assert main(arguments) == 0
    before = (tmp_path / "celllm_drug_lines.csv").read_text()
    assert main(arguments) == 0
    assert (tmp_path / "celllm_drug_lines.csv").read_text() == before
    page = (tmp_path / "celllm_drug_lines.md").read_text()
    assert all(f"### {split} " in page for split in drug_lines.SPLITS)

    for module in (data, drug_sc):
        monkeypatch.setattr(module, "load_all", lambda name: resistant_cells())
    monkeypatch.setattr(drug_sc, "N_DRAWS", 2)
    assert main(["celllm", "--task", "drug_sc", "--seeds", "1", "--out", str(tmp_path), "--methods", "PCA + kNN"]) == 0
    page = (tmp_path / "celllm_drug_sc.md").read_text()
    assert "### 80% of the cells of a375_plx4720 labelled" in page and "CellLM (paper) 0.889" in page

    genes, edge_2e = graph
    monkeypatch.setattr(ppi, "resource", lambda name: None)
    monkeypatch.setattr(ppi, "read_graph", lambda path: graph)
    monkeypatch.setattr(ppi, "read_programs", lambda path: {"all": list(genes[:30])})
    assert main(["celllm", "--task", "ppi", "--seeds", "1", "--out", str(tmp_path), "--methods", "random vectors"]) == 0
    assert "| random vectors |" in (tmp_path / "celllm_ppi.md").read_text()
    for picture in ("drug_lines", "drug_sc", "ppi"):
        assert (tmp_path / f"celllm_{picture}.png").stat().st_size > 3000
