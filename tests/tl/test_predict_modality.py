from contextlib import nullcontext

import mudata
import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse
from small_models import assert_unchanged

from sc_ssl.models import BYOL
from sc_ssl.tl import embed, predict_modality

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


def trained(adata, **setup):
    adata = adata.copy()
    BYOL.setup_anndata(adata, **setup)
    model = BYOL(adata, projector=[8], **ENCODER)
    model.train(2, accelerator="cpu", enable_progress_bar=False)
    return model


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


def test_errors_come_before_an_encoder_is_trained(cite, monkeypatch):
    monkeypatch.setattr(BYOL, "train", lambda *_, **__: pytest.fail("the encoder was trained"))
    for wrong, error, message in (
        ({"frozen": True}, TypeError, "frozen"),
        ({"dropout_rate": 1.5}, ValueError, r"dropout_rate lies in \[0, 1\), found 1.5"),
        ({"max_epochs": 0}, ValueError, "max_epochs is a whole number, at least 1"),
        ({"key_added": "protein"}, ValueError, r"obsm\['protein'\] is there already, and sc_ssl has not written it"),
    ):
        with pytest.raises(error, match=message):
            predict_modality(cite, encoder="byol", encoder_kwargs=ENCODER, **QUICK | wrong)


def test_a_result_takes_only_the_place_of_an_earlier_one(cite):
    options = QUICK | ENCODER | {"encoder": None}
    cite.obsm["protein_predicted"] = cite.obsm["protein"].copy()
    with pytest.raises(ValueError, match=r"obsm\['protein_predicted'\] is there already"):
        predict_modality(cite, **options)
    del cite.obsm["protein_predicted"]
    cite.obsm["X_pca"], cite.uns["X_pca"] = np.zeros((120, 2)), {"params": {}}
    with pytest.raises(ValueError, match=r"obsm\['X_pca'\] is there already"):
        predict_modality(cite, key_added="X_pca", **options)
    predict_modality(cite, **options)
    first = cite.obsm["protein_predicted"]
    predict_modality(cite, random_state=1, **options)
    assert not np.allclose(cite.obsm["protein_predicted"], first)


def test_an_encoder_of_several_batches_reads_them_and_one_of_other_genes_or_input_is_refused(cite, capsys, logged):
    donors = cite.copy()
    donors.obs["donor"] = [f"donor_{i % 3}" for i in range(120)]
    encoder = trained(donors, batch_key="donor")
    capsys.readouterr()
    predict_modality(donors, encoder=encoder, **QUICK)  # the donors that it knows
    assert capsys.readouterr().out == ""
    assert donors.uns["protein_predicted"]["params"]["encoder"] == "BYOL"
    predict_modality(cite, encoder=encoder, **QUICK)  # cells of a new batch
    known, new = donors.obsm["protein_predicted"], cite.obsm.pop("protein_predicted")
    assert known.notna().all(axis=None) and not np.allclose(known, new)
    del cite.uns["protein_predicted"]
    predict_modality(cite[:, :60].copy(), encoder=encoder, **QUICK)
    said = "36 of the model's 96 genes are missing and take their mean: 'gene_60'"
    assert logged().count(said) == 1
    before, renamed = cite.copy(), cite.copy()
    renamed.var_names = [f"other_{g}" for g in range(96)]
    with pytest.raises(ValueError, match=r"needs 50% of its 96 genes, found 0 .* names such as 'other_0'"):
        predict_modality(renamed, encoder=encoder, **QUICK)
    log_cells = cite.copy()
    log_cells.X = np.log1p(log_cells.X)
    with pytest.raises(ValueError, match=r"trained on log-normalised values .* taken for raw counts"):
        predict_modality(cite, encoder=trained(log_cells, input="log1p"), **QUICK)
    assert_unchanged(cite, before)


def test_cells_without_proteins_are_not_learned_from(cite):
    cite.obsm["protein"].iloc[60:] = np.nan
    other = cite.copy()
    other.X = sparse.vstack([cite.X[:60], cite.X[60:][::-1]]).tocsr()  # the same genes vary
    for adata in (cite, other):
        predict_modality(adata, encoder=None, n_top_genes=None, **QUICK, **ENCODER)
    first, second = cite.obsm["protein_predicted"], other.obsm["protein_predicted"]
    pd.testing.assert_frame_equal(first.iloc[:60], second.iloc[:60], rtol=1e-4)
    np.testing.assert_allclose(first.iloc[60:], second.iloc[:59:-1], rtol=1e-3, atol=1e-4)


def test_epochs_are_those_of_the_regressor_and_in_train_kwargs_of_both(cite, monkeypatch):
    train, of_encoder = BYOL.train, []

    def spied(self, max_epochs=None, **options):
        of_encoder.append(max_epochs)
        train(self, max_epochs, **options)

    monkeypatch.setattr(BYOL, "train", spied)
    both = {"enable_progress_bar": False, "max_epochs": 2}
    options = QUICK | {"encoder": "byol", "encoder_kwargs": ENCODER, "train_kwargs": both}
    for max_epochs, n_epochs in ((3, 3), (None, 2)):
        predict_modality(cite, **options | {"max_epochs": max_epochs})
        assert len(cite.uns["protein_predicted"]["history"]["train_loss"]) == n_epochs
    assert of_encoder == [2, 2]


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
    with pytest.raises(
        ValueError, match="encoder_kwargs 'n_hidden', 'n_latent' are of an encoder that is trained here"
    ):
        predict_modality(cite, encoder=None, encoder_kwargs=ENCODER)
    with pytest.raises(TypeError, match=r"found MuData; pass one of its modalities, mdata\['rna'\]"):
        embed(both)
    assert set(cite.obsm) == {"protein"}
