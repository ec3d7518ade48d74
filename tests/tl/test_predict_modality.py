from contextlib import nullcontext

import mudata
import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse

from sc_ssl.tl import predict_modality

QUICK = {
    "max_epochs": 3,
    "accelerator": "cpu",
    "train_kwargs": {"enable_progress_bar": False},
    "head": [8],
}
ENCODER = {"n_hidden": [16], "n_latent": 4}


@pytest.fixture
def cite(counts):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 4))[counts.obs["cell_type"].cat.codes] + 0.1 * rng.normal(size=(120, 4))
    counts.obsm["protein"] = pd.DataFrame(values, index=counts.obs_names, columns=list("abcd"))
    return counts


def joined(rna, proteins):
    # mudata 0.4 pulls nothing on update; before, it has to be told, or warns
    told = mudata.set_options(pull_on_update=False) if hasattr(mudata, "set_options") else nullcontext()
    with told:
        return mudata.MuData({"rna": rna, "prot": proteins})


@pytest.mark.parametrize("encoder", ["byol", "mae", None])
def test_every_cell_is_predicted_and_nothing_else_is_touched(cite, encoder):
    cite.obsm["protein"].iloc[100:] = np.nan
    before, state = cite.copy(), torch.get_rng_state()
    extra = {"encoder_kwargs": ENCODER} if encoder else ENCODER
    predict_modality(cite, encoder=encoder, **QUICK, **extra)
    prediction = cite.obsm["protein_predicted"]
    assert prediction.shape == (120, 4)
    assert prediction.notna().all(axis=None)
    assert prediction.index.equals(cite.obs_names)
    assert torch.equal(torch.get_rng_state(), state)
    assert set(cite.obsm) == {"protein", "protein_predicted"}
    assert set(cite.uns) == {"protein_predicted"}
    assert (cite.X != before.X).nnz == 0
    assert cite.obs.equals(before.obs)


def test_cells_without_proteins_are_not_learned_from(cite):
    cite.obsm["protein"].iloc[60:] = np.nan
    other = cite.copy()
    other.X = sparse.vstack([cite.X[:60], cite.X[60:][::-1]]).tocsr()  # the same genes vary
    for adata in (cite, other):
        predict_modality(adata, encoder=None, n_top_genes=None, **QUICK, **ENCODER)
    first, second = cite.obsm["protein_predicted"], other.obsm["protein_predicted"]
    pd.testing.assert_frame_equal(first.iloc[:60], second.iloc[:60], rtol=1e-4)
    np.testing.assert_allclose(first.iloc[60:], second.iloc[:59:-1], rtol=1e-3, atol=1e-4)


def test_same_seed_same_prediction_and_it_can_be_written(cite, tmp_path):
    first = predict_modality(cite, encoder="byol", encoder_kwargs=ENCODER, key_added="adt", copy=True, **QUICK)
    second = predict_modality(cite, encoder="byol", encoder_kwargs=ENCODER, key_added="adt", copy=True, **QUICK)
    pd.testing.assert_frame_equal(first.obsm["adt"], second.obsm["adt"])
    assert "adt" not in cite.obsm
    first.write_h5ad(tmp_path / "cells.h5ad")


def test_mudata_is_matched_by_cell(cite):
    proteins = AnnData(cite.obsm["protein"].iloc[::-1].iloc[:90].astype(np.float32))
    rna = AnnData(cite.X, obs=cite.obs, var=cite.var)
    both = joined(rna, proteins)
    predict_modality(both, "prot", encoder=None, **QUICK, **ENCODER)
    cite.obsm["prot"] = cite.obsm.pop("protein")
    cite.obsm["prot"].iloc[:30] = np.nan
    predict_modality(cite, "prot", encoder=None, **QUICK, **ENCODER)
    pd.testing.assert_frame_equal(both.mod["rna"].obsm["prot_predicted"], cite.obsm["prot_predicted"])


def test_bad_input_is_refused_and_leaves_the_cells_unchanged(cite):
    with pytest.raises(KeyError, match="'adt' is not in adata.obsm, which has protein"):
        predict_modality(cite, "adt")
    with pytest.raises(ValueError, match="encoder is one of .* found 'scvi'"):
        predict_modality(cite, encoder="scvi")
    few = cite.copy()
    few.obsm["protein"].iloc[5:] = np.nan
    with pytest.raises(ValueError, match="at least 10 cells with 'protein' are needed, found 5"):
        predict_modality(few)
    other = AnnData(np.ones((3, 2), np.float32), obs=pd.DataFrame(index=["x", "y", "z"]))
    both = joined(AnnData(cite.X, obs=cite.obs, var=cite.var), other)
    with pytest.raises(ValueError, match="have no cell in common, found for example 'cell_0' and 'x'"):
        predict_modality(both, "prot")
    with pytest.raises(KeyError, match="'adt' is no modality of the MuData, which has rna, prot"):
        predict_modality(both, "adt")
    assert set(cite.obsm) == {"protein"}
