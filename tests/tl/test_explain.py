"""What explanations of every method of ``tl.embed`` promise, and what they refuse."""

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import read_h5ad
from conftest import make_counts
from small_models import build, fit

from sc_ssl import models
from sc_ssl.models import METHODS
from sc_ssl.tl import embed, explain

LINEAR = ("nmf", "pca_cosine")


@pytest.fixture(scope="module")
def cells():
    """Three types; gene_5, of type 0, is expressed by no cell of type 2, and gene_95 by none. Not to be changed."""
    cells = make_counts()
    matrix = cells.X.toarray()
    matrix[np.ix_(cells.obs["cell_type"] == "type_2", [5])] = 0
    matrix[:, 95] = 0
    matrix[0, 95] = 1
    cells.X = type(cells.X)(matrix)
    for name in LINEAR:
        embed(cells, name, n_latent=6)
    return cells


@pytest.fixture(scope="module", params=[*LINEAR, *METHODS])
def explained(request, cells):
    """Name of a method, and what is to be explained: a trained model, or a key."""
    name = request.param
    return name, name if name in LINEAR else fit(METHODS[name], cells.copy(), max_epochs=2)


def explanation(cells, explained, **options):
    name, model_or_key = explained
    options = {"groupby": "cell_type", "n_cells": 6} | options
    result = explain(cells, model_or_key, copy=True, **options)
    return result.varm[f"{name}_contributions"], result.uns[f"{name}_explained"]


# what every method promises


def test_contributions_sum_to_the_difference_from_the_baseline(cells, explained):
    for baseline in ("rest", "zero"):
        _, found = explanation(cells, explained, baseline=baseline)
        summary = found["summary"]
        total = found["genes"].groupby("group", observed=True)["scores"].sum()
        np.testing.assert_allclose(total[summary["group"]].to_numpy(), summary["explained"], rtol=1e-3, atol=1e-6)
        if explained[0] != "celllm":
            assert summary["error"].max() < (1e-4 if explained[0] in LINEAR else 0.01)


def test_permuted_genes_have_permuted_contributions(cells, explained):
    contribution, _ = explanation(cells, explained)
    order = np.random.default_rng(0).permutation(cells.n_vars)
    permuted, _ = explanation(cells[:, order].copy(), explained)
    pd.testing.assert_frame_equal(permuted.loc[contribution.index], contribution, rtol=1e-4, atol=1e-5)


def test_what_a_group_does_not_express_has_no_contribution_against_a_cell_without_counts(cells, explained):
    contribution, _ = explanation(cells, explained, baseline="zero")
    assert contribution.loc["gene_5", "type_2"] == 0
    assert contribution.loc["gene_95", "type_1"] == 0
    assert (contribution.loc[[f"gene_{g}" for g in range(16)], "type_0"] != 0).all()


def test_same_seed_same_contributions_and_the_cells_are_unchanged(cells, explained):
    before = cells.copy()
    first, _ = explanation(cells, explained)
    second, _ = explanation(cells, explained)
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert sorted(cells.uns) == sorted(before.uns)
    assert list(cells.varm) == list(before.varm)


# what is found


@pytest.fixture(scope="module")
def model(cells):
    return fit(models.MaskedAutoencoder, cells.copy(), max_epochs=30)


@pytest.mark.parametrize("method", ["mae", *LINEAR])
def test_marker_genes_of_a_type_add_most_to_its_place(cells, model, method):
    """Of 96 genes 16 are markers of each type; gene_5 is set apart above."""
    _, found = explanation(cells, (method, model if method == "mae" else method), n_cells=30)
    for t in range(3):
        genes = found["genes"].query(f"group == 'type_{t}' and logfoldchanges > 0").head(12)["names"]
        assert np.mean([t * 16 <= int(name.removeprefix("gene_")) < (t + 1) * 16 for name in genes]) > 0.8


def test_gradient_and_integral_agree_where_the_embedding_is_linear(cells):
    linear = fit(models.ScPretrain, cells.copy(), max_epochs=2)
    first, _ = explanation(cells, ("scpretrain", linear))
    second, _ = explanation(cells, ("scpretrain", linear), method="gradient", n_steps=1)
    np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-5)


def test_a_planted_batch_effect_is_found_within_types():
    cells = make_counts(n_cells=240, n_batches=2)
    matrix = cells.X.toarray()
    second = (cells.obs["donor"] == "donor_1").to_numpy()
    matrix[np.ix_(second, range(60, 66))] += 6
    cells.X = type(cells.X)(matrix)
    embed(cells, "pca_cosine", n_latent=6)
    explain(cells, "pca_cosine", groupby="cell_type", batch_key="donor")
    genes = cells.uns["pca_cosine_explained"]["genes"].query("kind == 'batch' and group == 'donor_1'")
    assert set(genes["names"].head(6)) == {f"gene_{g}" for g in range(60, 66)}


def test_dimensions_are_explained_by_their_ends(cells):
    contribution, found = explanation(cells, ("pca_cosine", "pca_cosine"), groupby=None, dims=[3, 0])
    assert list(contribution.columns) == ["dim 3", "dim 0"]
    assert (found["summary"]["difference"] > 0).all()
    every, _ = explanation(cells, ("pca_cosine", "pca_cosine"), groupby=None)
    assert every.shape == (96, 6)


def test_programmes_of_markers_are_found_and_random_ones_are_not(cells):
    rng = np.random.default_rng(1)
    programs = {f"markers of {t}": [f"gene_{g}" for g in range(t * 16, t * 16 + 12)] for t in range(3)}
    programs |= {
        f"random {i}": [f"gene_{g}" for g in rng.choice(np.arange(48, 95), 12, replace=False)] for i in range(5)
    }
    _, found = explanation(cells, ("pca_cosine", "pca_cosine"), programs=programs, n_cells=30)
    scored = found["programs"].set_index(["group", "program"])
    for t in range(3):
        assert scored.loc[(f"type_{t}", f"markers of {t}"), "pvals_adj"] < 0.05
        assert scored.loc[f"type_{t}"]["scores"].idxmax() == f"markers of {t}"
    random = scored[scored.index.get_level_values("program").str.startswith("random")]
    assert (random["pvals_adj"] < 0.05).mean() <= 0.1


def test_result_is_written_and_read_again(cells, tmp_path):
    cells = cells.copy()
    explain(cells, "nmf", groupby="cell_type", programs={"some": [f"gene_{g}" for g in range(8)]})
    cells.write_h5ad(tmp_path / "cells.h5ad")
    read = read_h5ad(tmp_path / "cells.h5ad")
    for table in ("genes", "summary", "programs"):
        pd.testing.assert_frame_equal(
            read.uns["nmf_explained"][table],
            cells.uns["nmf_explained"][table],
            check_dtype=False,
            check_index_type=False,
        )
    explain(read, "nmf", groupby="cell_type")  # once more, in place


def test_key_of_a_saved_model_and_genes_that_the_data_lack(cells, tmp_path):
    cells = cells.copy()
    embed(
        cells,
        "mae",
        save_model=tmp_path / "mae",
        max_epochs=1,
        n_hidden=[16],
        train_kwargs={"enable_progress_bar": False},
    )
    by_key, _ = explanation(cells, ("mae", "X_mae"))
    by_folder, _ = explanation(cells, ("mae", tmp_path / "mae"))
    pd.testing.assert_frame_equal(by_key, by_folder)
    fewer, found = explanation(cells[:, :80].copy(), ("mae", tmp_path / "mae"))
    assert fewer.notna().all().all()
    assert found["summary"]["error"].max() < 0.01


# what is refused


class Stochastic(models.MaskedAutoencoder):
    """Its embedding differs from call to call."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        embed_expression = self.module.embed_expression
        self.module.embed_expression = lambda *cells: embed_expression(*cells) + torch.randn(1)


def change(column, value):
    def changed(cells):
        cells.obs[column] = value(cells)

    return changed


BAD = {
    "group of one cell": (change("a", lambda c: ["one"] + ["others"] * 119), {"groupby": "a"}, "'one'"),
    "group of all": (change("a", lambda c: "every"), {"groupby": "a"}, "nothing to compare"),
    "no such column": (None, {"groupby": "nope"}, "'nope' is not in adata.obs"),
    "dimension too high": (None, {"dims": [0, 6]}, "from 0 to 5"),
    "programmes of others": (None, {"groupby": "cell_type", "programs": {"a": ["X"] * 9}}, "measured genes"),
    "no programmes": (None, {"groupby": "cell_type", "programs": "nope"}, "'nope'"),
    "baseline": (None, {"baseline": "median"}, "'rest', 'mean', 'zero'"),
    "cells": (None, {"n_cells": 0}, "n_cells"),
    "fewer cells": (
        lambda c: c._inplace_subset_obs(np.arange(60)),
        {"groupby": "cell_type"},
        "not what pca_cosine makes",
    ),
}


@pytest.mark.parametrize(("prepare", "options", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_named(cells, prepare, options, message):
    cells = cells.copy()
    if prepare is not None:
        prepare(cells)
    with pytest.raises((ValueError, KeyError), match=message):
        explain(cells, "pca_cosine", **options)
    assert "pca_cosine_contributions" not in cells.varm
    assert "pca_cosine_explained" not in cells.uns


def test_key_without_its_model_names_the_remedy(cells):
    cells = cells.copy()
    embed(cells, "mae", max_epochs=1, n_hidden=[16], train_kwargs={"enable_progress_bar": False})
    with pytest.raises(ValueError, match="save_model="):
        explain(cells, "mae", groupby="cell_type")
    with pytest.raises(KeyError, match="neither the folder"):
        explain(cells, "masksc", groupby="cell_type")


def test_models_that_cannot_be_explained_are_refused(cells, model):
    with pytest.raises(ValueError, match="stochastic"):
        explain(cells, fit(Stochastic, cells.copy(), max_epochs=1), groupby="cell_type")
    own = cells.copy()
    models.CellLM.setup_anndata(own)
    binned = models.CellLM(own, n_latent=16, tokens={"values": "log2"})
    binned.is_trained_ = True
    with pytest.raises(ValueError, match="bins"):
        explain(cells, binned, groupby="cell_type")
    other = cells.copy()
    other.var_names = [f"other_{g}" for g in range(96)]
    with pytest.raises(ValueError, match="genes"):
        explain(other, model, groupby="cell_type")
    with pytest.raises(RuntimeError, match="train the model first"):
        explain(cells, build(models.ContrastiveSC, cells.copy()), groupby="cell_type")


def test_a_gradient_of_the_embedding_can_be_taken(model, cells):
    function = model.embedding_function()
    x_ng, batch_n1 = function.read(indices=[3, 1])
    z_nd = function(x_ng.requires_grad_(), batch_n1)
    np.testing.assert_allclose(z_nd.detach(), model.get_latent_representation(indices=[3, 1]), atol=1e-5)
    z_nd.sum().backward()
    assert x_ng.grad.abs().sum() > 0
