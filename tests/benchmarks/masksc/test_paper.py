import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from benchmarks.quality import data
from benchmarks.quality.__main__ import main
from benchmarks.quality.clustering import folder, methods, scmae, scores
from benchmarks.quality.clustering.folder import Folder
from benchmarks.quality.clustering.published import TABLE_1
from benchmarks.quality.clustering.scores import Scores, measure
from benchmarks.quality.masksc import figure_4, figure_5, figure_6, table_1, table_2
from sc_ssl.metrics import kmeans
from sc_ssl.models import MaskSC


def log_counts(adata, seed):
    return np.log1p(adata.X.toarray()) + seed


def runs_of(rows):
    """``(data set, method, ARIs by seed)`` each, as the table of a CSV."""
    return pd.DataFrame(
        [
            {"dataset": name, "method": method, "seed": seed, "ari": ari}
            for name, method, aris in rows
            for seed, ari in enumerate(aris)
        ]
    ).assign(nmi=0.5, silhouette=0.25, silhouette_common=0.1, seconds=2.0)


@pytest.fixture
def cells(build_counts, monkeypatch):
    """Two data sets, under the names of the paper's, and rows that train nothing."""
    sets = {"pbmc4k": build_counts(90, 120, seed=1), "worm_neuron": build_counts(80, 120, seed=2)}
    for module in (data, folder):
        monkeypatch.setattr(module, "load", sets.__getitem__)
    monkeypatch.setattr(figure_5, "SIDES", dict.fromkeys(sets, (4, 6)))
    for module in (figure_5, table_2):
        monkeypatch.setattr(module, "ours", lambda method, **options: log_counts)
    rows = dict.fromkeys(("masksc", "contrastive_sc", "pca_standard", "pca_raw", "nmf", "nmf_raw"), log_counts)
    monkeypatch.setattr(methods, "METHODS", rows)
    monkeypatch.setattr(figure_4, "ROWS", ("pca_standard", "masksc"))
    return sets


def test_every_table_and_figure_is_written_and_none_is_done_again(cells, tmp_path, monkeypatch):
    monkeypatch.setattr(MaskSC, "train", lambda model, *args, **options: None)
    arguments = ["masksc", "--datasets", *cells, "--quick", "--out", str(tmp_path)]
    assert main(arguments) == 0
    page = (tmp_path / "masksc.md").read_text()
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        f"## {piece}" for piece in ("Table 1", "Table 2", "Figure 4", "Figure 5", "Figure 6")
    ]
    assert "**This is the quick run**" in page
    pictures = {file.name for file in tmp_path.glob("*.png")}
    assert pictures == {part.split(")")[0] for part in page.split("](")[1:]}
    before = {file: file.read_bytes() for file in tmp_path.glob("*.csv")}
    monkeypatch.setattr(scores, "score", lambda *args: pytest.fail("done again"))
    for module in (figure_4, figure_6):
        monkeypatch.setattr(module, "_draw", lambda *args: pytest.fail("drawn again"))
    assert main(arguments) == 0
    assert before == {file: file.read_bytes() for file in tmp_path.glob("*.csv")}


def test_what_is_asked_for_is_done_and_no_more(cells, tmp_path):
    assert main(["masksc", "--figure", "5", "--datasets", "pbmc4k", "--seeds", "2", "--out", str(tmp_path)]) == 0
    assert {file.name for file in tmp_path.iterdir()} == {
        "masksc.md", "masksc_figure_5.csv", "masksc_figure_5.png",
    }  # fmt: skip
    runs = pd.read_csv(tmp_path / "masksc_figure_5.csv")
    assert len(runs) == 2 * 2 * 5 and set(runs["dataset"]) == {"pbmc4k"}
    assert "quick" not in (tmp_path / "masksc.md").read_text()


def test_a_quick_run_has_cells_and_files_of_its_own(build_counts, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "load", lambda name: build_counts(1_200, 20))
    whole, quick = Folder(tmp_path), Folder(tmp_path, quick=True)
    assert (whole.cells("any").n_obs, quick.cells("any").n_obs) == (1_200, 1_000)
    assert whole.runs("clustering").path != quick.runs("clustering").path
    assert whole.kept_at("a.npy") != quick.kept_at("a.npy")


def test_cells_of_the_folder_are_not_changed_by_a_row(cells, tmp_path):
    runs = Folder(tmp_path)
    runs.cells("pbmc4k").X.data[:] = 7
    assert runs.cells("pbmc4k").X.data.max() != 7


def test_scores_gather_seeds_and_set_published_numbers_beside():
    runs = runs_of([("a", "ours", [0.2, 0.4]), ("a", "once", [0.5])])
    found = Scores.of(runs, ["once", "ours", "theirs", "never"], {"a": {"ours": (0.9, 0.8, 0.7), "theirs": (0.1,) * 3}})
    assert list(found.mean.index) == ["once", "ours", "theirs"]
    assert found.mean.loc["ours", ("a", "ari")] == pytest.approx(0.3)
    assert found.sd.loc["ours", ("a", "ari")] == pytest.approx(0.1)
    assert np.isnan(found.sd.loc["once", ("a", "ari")]), "one seed has no spread"
    text = found.text(runs, "a")
    assert text["ari"].tolist() == ["0.500", "0.300 ± 0.100 (0.900)", "(0.100)"]
    assert text.loc["ours", "silhouette_common"] == "0.100 ± 0.000"
    assert list(text.index) == ["once, 1 of 2 seeds", "ours", "theirs"]


def test_clusters_are_the_largest_coefficients_where_the_paper_takes_those(cells, tmp_path):
    rng = np.random.default_rng(0)
    code_n = pd.factorize(cells["pbmc4k"].obs["cell_type"])[0]
    depth_n1 = rng.choice([1, 100, 1000], (len(code_n), 1))  # what K-means parts the cells by
    factor_nk = depth_n1 * np.eye(3)[code_n]
    runs = Folder(tmp_path)
    rows = {"nmf_raw": lambda adata, seed: factor_nk, "other": lambda adata, seed: factor_nk}
    measure(runs, "any", {"pbmc4k": rows}, 1)
    ari = runs.table("any").set_index("method")["ari"]
    assert ari["nmf_raw"] == 1 > ari["other"]


def findings(rows):
    runs = runs_of(rows)
    gathered = Scores.of(runs, [method for _, method, _ in rows], TABLE_1)
    return "\n".join(
        line
        for name in gathered.names
        for part in (table_1._claims, table_1._rivals, table_1._raw)
        for line in part(gathered, name)
    )


def test_the_text_says_which_rows_are_ahead_and_which_level():
    said = findings(
        [
            ("pbmc4k", "masksc", [0.68, 0.70]),
            ("pbmc4k", "pca_standard", [0.60, 0.79]),
            ("pbmc4k", "contrastive_sc", [0.80, 0.82]),
            ("pbmc4k", "nmf", [0.40, 0.41]),
            ("pbmc4k", "scvi", [0.9]),
            ("pbmc4k", "pca_raw", [0.2, 0.2]),
        ]
    )
    assert "ari not reached (0.690, claimed 0.806)" in said
    assert "silhouette not reached" in said
    assert "ahead of `masksc` (0.690) by ARI: `scvi` (0.900, one seed), `contrastive_sc` (0.810)." in said
    assert "level with `masksc` (0.690) by ARI: `pca_standard` (0.695)." in said
    assert 'row "PCA" (0.190) is a run on raw counts' in said
    assert "Such a run has 0.200 here (`pca_raw`), and the method on normalised counts 0.695 (`pca_standard`)" in said
    assert "scRNA" not in said, "there is no such run"


def test_the_text_says_when_nothing_comes_up_to_masksc():
    said = findings([("worm_neuron", "masksc", [0.7, 0.7]), ("worm_neuron", "nmf", [0.5, 0.5])])
    assert "no row without labels comes up to `masksc` (0.700); the next is `nmf` (0.500)" in said
    assert "ari reached (0.700, claimed 0.578)" in said


def test_likeness_of_attention_is_that_of_all_pairs():
    rng = np.random.default_rng(0)
    map_nt, labels = rng.random((7, 4)), pd.Series(list("aabbbac"))
    same, other = [], []
    for i, j in itertools.combinations(range(7), 2):
        cosine = map_nt[i] @ map_nt[j] / np.linalg.norm(map_nt[i]) / np.linalg.norm(map_nt[j])
        (same if labels[i] == labels[j] else other).append(cosine)
    found = figure_6.likeness(map_nt, labels)
    assert found["within"] == pytest.approx(np.mean(same))
    assert found["between"] == pytest.approx(np.mean(other))
    assert found["difference"] == pytest.approx(np.mean(same) - np.mean(other))
    one_map_each = np.eye(4)[[0, 0, 1, 1, 1, 0, 2]] + 5
    assert (
        figure_6.likeness(one_map_each, labels)["centred"] > 10 * figure_6.likeness(one_map_each, labels)["difference"]
    ), "what all cells share hides the difference"


@pytest.mark.parametrize(("n_genes", "side"), [(120, 8), (17, 4), (5_000, 64)])
def test_the_matrix_of_the_ablation_is_full_of_genes(build_counts, n_genes, side):
    assert table_2.side(build_counts(60, n_genes)) == side


def test_the_rows_of_the_ablation_are_models_that_train(build_counts):
    adata = build_counts(60, 70)
    embeddings = {row: embed(adata.copy(), 0) for row, embed in table_2.rows(8, 1).items()}
    assert list(embeddings) == list(table_2.ROWS)
    for a, b in itertools.combinations(embeddings.values(), 2):
        assert a.shape != b.shape or not np.allclose(a, b)


def test_the_sweep_begins_with_what_the_paper_shows(build_counts, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "load", lambda name: build_counts(20, 10_000))  # enough for the largest matrix
    rows = list(figure_5.rows("worm_neuron", Folder(tmp_path)))
    assert len(rows) == 20
    assert all("side=64" in row or "mask_rate=0.75" in row for row in rows[:8])
    assert set(figure_5.rows("worm_neuron", Folder(tmp_path, quick=True))) == set(rows[:8])


@pytest.mark.parametrize("row", [methods.pca_raw, methods.nmf_raw])
def test_raw_rows_see_counts_that_nothing_was_done_to(build_counts, row):
    adata = build_counts(40, 30)
    before = adata.X.copy()
    shallow = adata.copy()
    shallow.X[:20] = 3 * shallow.X[:20]
    assert not np.allclose(row(adata, 0), row(shallow, 0)), "a deeper library changes the embedding"
    assert (adata.X != before).nnz == 0


def test_scmae_swaps_genes_between_cells_and_knows_which():
    torch.manual_seed(0)
    x_ng = torch.rand(50, 400)
    shown_ng, swapped_ng = scmae.swap(x_ng)
    assert torch.equal(shown_ng[~swapped_ng], x_ng[~swapped_ng])
    assert (shown_ng != x_ng).equal(swapped_ng)
    assert 0.37 < swapped_ng.float().mean() < 0.41  # less than 0.4: a cell may be dealt to itself
    for shown_g, swapped_g in zip(shown_ng, swapped_ng, strict=True):  # all from one other cell, at the same genes
        assert not swapped_g.any() or (x_ng[:, swapped_g] == shown_g[swapped_g]).all(dim=1).sum() == 1


def test_scmae_tells_types_and_follows_the_seed(build_counts):
    adata = build_counts(90, 60)
    embedding = methods.scmae(adata, 0)
    assert embedding.shape == (90, 128)
    assert adjusted_rand_score(adata.obs["cell_type"], kmeans(embedding, 3)) > 0.9
    np.testing.assert_array_equal(embedding, methods.scmae(adata, 0))
    assert not np.allclose(embedding, methods.scmae(adata, 1))
