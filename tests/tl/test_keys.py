"""Names that h5ad and zarr cannot hold, and folders in the user's home."""

import anndata as ad
import numpy as np
import pytest
from embedding import run
from small_models import QUICK, build

from sc_ssl.models import MaskedAutoencoder, load
from sc_ssl.tl import cluster, embed, map_query, predict_modality


def stored(adata, tmp_path):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    adata.write_zarr(tmp_path / "cells.zarr")
    return ad.read_h5ad(tmp_path / "cells.h5ad"), ad.read_zarr(tmp_path / "cells.zarr")


def test_batches_with_a_slash_can_be_kept_with_their_curves(counts, tmp_path):
    counts.obs["kit"] = np.where(np.arange(counts.n_obs) % 2, "10x/v2", "10x/v3")
    embed(counts, "scpretrain", batch_key="kit", max_epochs=1, train_kwargs=QUICK, cells_per_cluster=[20])
    curves = set(counts.uns["scpretrain"]["history"])
    assert any("10x_v2" in name for name in curves)
    for found in stored(counts, tmp_path):
        assert set(found.uns["scpretrain"]["history"]) == curves


def test_proteins_with_a_slash_are_renamed_and_logged(counts, tmp_path, warnings_logged):
    names = ["CD45R/B220", "CD3"]
    counts.obsm["protein"] = counts.to_df().iloc[:, :2].set_axis(names, axis=1)
    predict_modality(counts, "protein", encoder=None, max_epochs=1, train_kwargs=QUICK)
    assert list(counts.obsm["protein_predicted"].columns) == ["CD45R_B220", "CD3"]
    assert any("'CD45R/B220' is 'CD45R_B220'" in text for text in warnings_logged())
    del counts.obsm["protein"]
    for found in stored(counts, tmp_path):
        assert list(found.obsm["protein_predicted"].columns) == ["CD45R_B220", "CD3"]


@pytest.mark.parametrize("key", ["a/b", "", ".", ".."])
def test_a_key_that_files_cannot_hold_is_refused_before_any_work(counts, key):
    with pytest.raises(ValueError, match="cannot be kept in h5ad or zarr; name the result"):
        embed(counts, "mae", key_added=key)
    counts.obsm["X_masksc"] = counts.X[:, :5].toarray()
    with pytest.raises(ValueError, match="cannot be kept in h5ad or zarr"):
        cluster(counts, key_added=key)


def test_the_users_home_is_found(counts, build_counts, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    run(counts, "contrastive_sc", save_model="~/model")
    assert {path.name for path in tmp_path.iterdir()} == {"model"}
    query = build_counts(seed=1)
    embed(query, "~/model")
    map_query(query, counts, "~/model", key_added="mapped")
    model = load("~/model")
    model.save("~/model", overwrite=True)
    build(MaskedAutoencoder, build_counts()).train(1, **QUICK, checkpoint_dir="~/checkpoints")
    assert {path.name for path in tmp_path.iterdir()} == {"model", "checkpoints"}
