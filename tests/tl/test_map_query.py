"""Cells of new batches in the embedding of a reference."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse
from sklearn.metrics import roc_auc_score
from small_models import QUICK, SMALL, assert_unchanged

from sc_ssl import models, tl
from sc_ssl.models import MaskedAutoencoder
from sc_ssl.tl._conformal import TypeClassifier, conformal_sets
from sc_ssl.tl._nearest import novelty, place

TYPES = ["a", "b", "c", "d"]


def make_batches(sizes, *, seed=0, missing=None, genes=96):
    """Cells of four types in batches, each of which multiplies the genes by factors of its own."""
    fixed, rng = np.random.default_rng(7), np.random.default_rng(seed)
    mean_tg = fixed.gamma(0.5, 4, size=(4, genes))
    parts, obs = [], []
    for batch, n in sizes.items():
        factor_g = np.exp(np.random.default_rng(sum(map(ord, batch))).normal(0, 0.4, size=genes))
        code_n = rng.choice([t for t in range(4) if missing is None or TYPES[t] != missing], size=n)
        parts.append(rng.poisson(mean_tg[code_n] * factor_g))
        obs.append(pd.DataFrame({"batch": batch, "cell_type": np.array(TYPES)[code_n]}))
    obs = pd.concat(obs, ignore_index=True)
    obs.index = [f"cell_{i}" for i in range(len(obs))]
    return AnnData(
        sparse.csr_matrix(np.concatenate(parts).astype(np.float32)),
        obs=obs,
        var=pd.DataFrame(index=[f"GENE{i}" for i in range(genes)]),
    )


@pytest.fixture(scope="module")
def reference():
    cells = make_batches({"one": 120, "two": 120, "three": 120}, missing="d")
    cells.obsm["X_umap"] = np.random.default_rng(0).normal(size=(cells.n_obs, 2)).astype(np.float32)
    return cells


@pytest.fixture(scope="module")
def folder(reference, tmp_path_factory):
    """A model of the reference."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    options = {"max_epochs": 30, "train_kwargs": QUICK, "batch_key": "batch", "key_added": "z"}
    tl.embed(reference.copy(), "mae", save_model=folder, **options, **SMALL["MaskedAutoencoder"])
    return folder


def make_query(sizes=None, **options):
    query = make_batches(sizes or {"four": 150, "five": 50}, seed=1, **options)
    query.obs = query.obs.rename(columns={"cell_type": "truth"})
    return query


@pytest.fixture(scope="module")
def mapped(reference, folder):
    query = make_query()
    tl.map_query(query, reference, folder, labels_key="cell_type", batch_key="batch")
    return query


def test_types_sets_novelty_and_coordinates_are_written(mapped, reference):
    n = mapped.n_obs
    classes = list(mapped.uns["map_query"]["classes"])
    assert classes == ["a", "b", "c"]
    assert {k: v.shape for k, v in mapped.obsm.items()} == {
        "X_mae": (n, 8),
        "X_umap": (n, 2),
        "cell_type_proba": (n, 3),
        "cell_type_set": (n, 3),
    }
    np.testing.assert_allclose(mapped.obsm["cell_type_proba"].sum(axis=1), 1, atol=1e-5)
    assert mapped.obsm["cell_type_set"].dtype == bool
    np.testing.assert_allclose(mapped.obs["cell_type_score"], mapped.obsm["cell_type_proba"].max(axis=1))
    assert mapped.obs["novelty"].between(0, 1).all()
    assert mapped.uns["map_query"]["n_calibration"] == reference.n_obs


def test_known_types_are_named_and_an_unknown_type_is_novel(mapped):
    truth, found = mapped.obs["truth"].to_numpy(str), mapped.obs["cell_type"].to_numpy(str)
    known = truth != "d"
    assert np.mean(found[known] == truth[known]) > 0.95
    assert roc_auc_score(~known, mapped.obs["novelty"]) > 0.9


def test_a_query_lies_among_the_reference_and_more_so_than_without_alignment(mapped, reference, folder):
    model = models.load(folder)
    known_nd = model.get_latent_representation(reference)
    plain = make_query()
    plain.obs["batch"] = "new to it"
    plain_nd = model.get_latent_representation(plain)
    known = (mapped.obs["truth"] != "d").to_numpy()
    type_of = reference.obs["cell_type"].to_numpy(str)

    def distance(query_nd):
        """Mean distance of cells to the centre of their type in the reference."""
        center = {t: known_nd[type_of == t].mean(axis=0) for t in "abc"}
        return np.mean(
            [np.linalg.norm(z - center[t]) for z, t in zip(query_nd[known], mapped.obs["truth"][known], strict=True)]
        )

    assert distance(mapped.obsm["X_mae"]) < 0.9 * distance(plain_nd)


def test_neither_reference_nor_model_nor_what_the_query_holds_is_changed(reference, folder):
    model, query = models.load(folder), make_query({"four": 60})
    before, tensors = reference.copy(), {k: v.clone() for k, v in model.module.state_dict().items()}
    copied = tl.map_query(query, reference, model, labels_key="cell_type", copy=True)
    assert_unchanged(reference, before)
    assert_unchanged(query, make_query({"four": 60}))
    assert "X_mae" in copied.obsm
    assert all((tensors[k] == v).all() for k, v in model.module.state_dict().items())


def test_the_same_call_gives_the_same_bits(reference, folder):
    query = make_query({"four": 60, "five": 60})
    tl.map_query(query, reference, folder, labels_key="cell_type", batch_key="batch")
    first = query.copy()
    tl.map_query(query, reference, folder, labels_key="cell_type", batch_key="batch")
    for key in first.obsm:
        np.testing.assert_array_equal(first.obsm[key], query.obsm[key])


@pytest.mark.parametrize("n", [1, 2, 19])
def test_few_cells_are_mapped(reference, folder, n):
    query = make_query({"four": n})
    tl.map_query(query, reference, folder, labels_key="cell_type")
    assert np.isfinite(query.obsm["X_mae"]).all()
    assert query.obs["novelty"].between(0, 1).all()


def test_many_batches_of_two_cells_are_mapped(reference, folder):
    query = make_query({f"donor {i}": 2 for i in range(40)})
    tl.map_query(query, reference, folder, labels_key="cell_type", batch_key="batch")
    assert np.mean(query.obs["cell_type"].astype(str) == query.obs["truth"]) > 0.5


def test_cells_without_counts_are_unknown_and_new(reference, folder):
    query = make_query({"four": 40})
    query.X = query.X.multiply(np.arange(40)[:, None] > 0).tocsr()
    tl.map_query(query, reference, folder, labels_key="cell_type")
    assert query.obs["cell_type"].iloc[0] == "Unknown"
    assert query.obs["novelty"].iloc[0] == 1
    assert not query.obsm["cell_type_set"][0].any()


def test_without_labels_no_types_and_without_coverage_no_sets(reference, folder):
    query = make_query({"four": 40})
    tl.map_query(query, reference, folder, key_added="mapped")
    assert set(query.obsm) == {"mapped_X_mae", "mapped_X_umap"}
    tl.map_query(query, reference, folder, labels_key="cell_type", coverage=None)
    assert "cell_type_set" not in query.obsm and "n_calibration" not in query.uns["map_query"]


def test_genes_of_another_species_come_through_orthologs(reference, folder):
    human = [f"GENE{i}" for i in range(96)]
    table = pd.DataFrame({"human": human, "mouse": [f"Gene{i}" for i in range(96)]})
    query, same = make_query({"four": 60}), make_query({"four": 60})
    query.var_names = table["mouse"].tolist()
    tl.map_query(same, reference, folder, labels_key="cell_type")
    tl.map_query(query, reference, folder, labels_key="cell_type", orthologs=table)
    np.testing.assert_allclose(query.obsm["X_mae"], same.obsm["X_mae"], atol=1e-5)
    with pytest.raises(ValueError, match=r"pass orthologs="):
        tl.map_query(query, reference, folder, key_added="without")


def test_half_of_the_genes_will_do_and_fewer_are_refused(reference, folder, warnings_logged):
    query = make_query()[:, ::2].copy()
    tl.map_query(query, reference, folder, labels_key="cell_type")
    known = (query.obs["truth"] != "d").to_numpy()
    assert np.mean((query.obs["cell_type"].astype(str) == query.obs["truth"])[known]) > 0.8
    assert any("48 of the model's 96 genes are missing" in text for text in warnings_logged())
    with pytest.raises(ValueError, match="needs 50% of its 96 genes"):
        tl.map_query(make_query()[:, ::3].copy(), reference, folder)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"coverage": 1.0}, ValueError, r"coverage lies in \(0, 1\)"),
        ({"coverage": 0.999}, ValueError, "need at least 999 annotated cells"),
        ({"labels_key": "no_such"}, KeyError, "no_such.*not in reference.obs"),
        ({"batch_key": "no_such"}, KeyError, "no_such"),
        ({"reference_batch_key": "no_such"}, KeyError, "no_such"),
        ({"model": "mae"}, ValueError, "folder of a saved one, found 'mae'"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused_and_nothing_is_written(reference, folder, options, error, words):
    query = make_query({"four": 40})
    with pytest.raises(error, match=words):
        tl.map_query(query, reference, **{"model": folder, "labels_key": "cell_type"} | options)
    assert_unchanged(query, make_query({"four": 40}))


def test_a_model_that_is_not_trained_is_refused(reference):
    cells = reference.copy()
    MaskedAutoencoder.setup_anndata(cells)
    with pytest.raises(ValueError, match="is not trained"):
        tl.map_query(make_query(), reference, MaskedAutoencoder(cells, **SMALL["MaskedAutoencoder"]))


def test_a_reference_of_one_batch_warns_that_its_sets_foresee_no_others(reference, folder, warnings_logged):
    query, one = make_query({"four": 40}), reference[reference.obs["batch"] == "one"].copy()
    tl.map_query(query, one, folder, labels_key="cell_type")
    assert any("are of one batch" in text for text in warnings_logged())


def test_a_batch_column_that_is_the_type_is_warned_of_and_calibrates_nothing(reference, folder, warnings_logged):
    with pytest.raises(ValueError, match="in types that several batches have, found 0"):
        tl.map_query(make_query(), reference, folder, labels_key="cell_type", reference_batch_key="cell_type")
    assert any("Each type is in one batch" in text for text in warnings_logged())


# the parts


def test_sets_hold_the_true_type_as_often_as_is_asked_for():
    rng = np.random.default_rng(0)
    code_n, batch_n = rng.integers(3, size=900), rng.integers(6, size=900)
    z_nd = np.eye(3)[code_n] + rng.normal(0, 0.6, size=(900, 3))
    for coverage in (0.7, 0.9):
        known = z_nd[:600], z_nd[:600], code_n[:600], batch_n[:600]
        sets_nk, n = conformal_sets(*known, z_nd[600:], coverage)
        assert n == 600
        assert sets_nk[np.arange(300), code_n[600:]].mean() == pytest.approx(coverage, abs=0.05)


def test_a_type_of_one_batch_is_learned_and_calibrates_nothing():
    code_n, batch_n = np.repeat([0, 1, 2], 40), np.tile([0, 1], 60)
    batch_n[80:] = 1
    z_nd = np.eye(3)[code_n] + np.random.default_rng(0).normal(0, 0.1, size=(120, 3))
    sets_nk, n = conformal_sets(z_nd, z_nd, code_n, batch_n, z_nd, 0.9)
    assert n == 80
    assert sets_nk.shape == (120, 3)
    assert TypeClassifier(z_nd, code_n)(z_nd, 3, (1, 1)).argmax(axis=1).tolist() == code_n.tolist()


def test_novelty_is_a_half_among_cells_like_itself_whatever_the_sizes():
    rng = np.random.default_rng(0)
    draw = lambda n: rng.normal(size=(n, 5))
    for n_known, n_query in [(500, 500), (500, 50), (50, 500)]:
        assert abs(novelty(draw(n_known), draw(n_query)).mean() - 0.5) < 0.05
    assert novelty(np.ones((20, 3)), np.ones((5, 3))).tolist() == pytest.approx([0.5] * 5, abs=1e-3)


def test_coordinates_are_those_of_the_nearest_cells():
    known_nd, xy = np.repeat(np.eye(2), 20, axis=0), np.repeat([[0.0, 5.0], [3.0, -1.0]], 20, axis=0)
    np.testing.assert_array_equal(place(known_nd, np.array([[0.9, 0.1], [0.1, 0.9]]), xy), [[0, 5], [3, -1]])
