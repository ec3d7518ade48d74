"""Several methods on the same cells, scored alike."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from sc_ssl.metrics import batch_mixing, clustering
from sc_ssl.tl import compare, embed

QUICK = {"max_epochs": 2, "accelerator": "cpu", "train_kwargs": {"enable_progress_bar": False, "batch_size": 40}}
METHODS = ["pca_cosine", "contrastive_sc", "X_random"]


@pytest.fixture
def cells(build_counts):
    cells = build_counts(150, 96, n_batches=2)
    cells.obsm["X_random"] = np.random.default_rng(0).normal(size=(150, 4))
    return cells


def test_each_method_is_scored_with_each_seed_and_embeddings_that_are_there_once(cells, tmp_path):
    cells.obs.loc[cells.obs_names[:10], "cell_type"] = np.nan
    table = compare(cells, METHODS, labels="cell_type", batch_key="donor", random_state=(0, 1), **QUICK)
    measures = ["ari", "nmi", "accuracy", "silhouette_labels", "batch_mixing", "seconds"]
    assert list(table["measure"].unique()) == measures and table["score"].notna().all()
    assert table.groupby("method").size().to_dict() == {"X_random": 5, "contrastive_sc": 12, "pca_cosine": 12}
    score = table[table["seed"] == 0].set_index(["method", "measure"])["score"]
    assert score["pca_cosine", "ari"] > 0.9 > 0.3 > score["X_random", "ari"]
    again = cells.copy()
    embed(again, "pca_cosine", batch_key="donor")
    z, types = again.obsm["X_pca_cosine"][10:], cells.obs["cell_type"][10:]
    assert score["pca_cosine", "silhouette_labels"] == pytest.approx(clustering(z, types)["silhouette_labels"])
    assert score["pca_cosine", "batch_mixing"] == pytest.approx(batch_mixing(z, cells.obs["donor"][10:], types))
    cells.write_h5ad(tmp_path / "cells.h5ad")
    kept = ad.read_h5ad(tmp_path / "cells.h5ad").uns["compare"]["table"]
    pd.testing.assert_frame_equal(kept.reset_index(drop=True), table, check_dtype=False)


def test_options_are_given_by_name_and_a_second_call_overwrites_the_first(cells):
    methods = {"pca_cosine": {}, "five components": {"method": "pca_cosine", "n_latent": 5}}
    for _ in range(2):
        table = compare(cells, methods, batch_key="donor")
    assert set(table["measure"]) == {"batch_mixing", "seconds"}
    assert cells.obsm["X_five components"].shape == (150, 5) and cells.obsm["X_pca_cosine"].shape == (150, 20)


@pytest.mark.parametrize(
    ("methods", "options", "error", "message"),
    [
        (
            ["pca_cosine", "X_pca"],
            {"labels": "cell_type"},
            ValueError,
            "'masksc', .* or keys of adata.obsm, .*; found 'X_pca'",
        ),
        ([], {"labels": "cell_type"}, ValueError, "at least one method"),
        (METHODS, {}, ValueError, "labels= or batch_key="),
        (METHODS, {"labels": "site"}, KeyError, "'site' is not in adata.obs"),
        (METHODS, {"labels": "alike"}, ValueError, "at least two cell types, found 1"),
    ],
)
def test_mistakes_are_found_before_anything_is_embedded(cells, methods, options, error, message):
    cells.obs["alike"] = "B"
    with pytest.raises(error, match=message):
        compare(cells, methods, **options)
    assert list(cells.obsm) == ["X_random"] and not cells.uns
