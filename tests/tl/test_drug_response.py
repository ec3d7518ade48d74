import numpy as np
import pandas as pd
import pytest
import torch
from small_models import assert_unchanged

from sc_ssl.models import CellLM, DrugResponse
from sc_ssl.tl import drug_response

QUICK = {
    "max_epochs": 3,
    "accelerator": "cpu",
    "train_kwargs": {"enable_progress_bar": False},
    "n_hidden": [16],
    "n_latent": 4,
}
NAMES = ["a", "b", "c", "d"]
DRUGS = pd.DataFrame(np.eye(4) + 1, index=NAMES)


@pytest.fixture
def screen(counts):
    values = np.random.default_rng(0).normal(size=(120, 4))
    counts.obsm["ln_ic50"] = pd.DataFrame(values, index=counts.obs_names, columns=NAMES)
    return counts


def long_table(table):
    stacked = table.rename_axis(index="cell", columns="drug").stack().rename("response")
    return stacked.reset_index()


def test_every_cell_and_drug_is_predicted_and_nothing_else_is_touched(screen):
    screen.obsm["ln_ic50"].iloc[100:] = np.nan
    screen.obsm["ln_ic50"]["c"] = np.nan
    before, state = screen.copy(), torch.get_rng_state()
    assert drug_response(screen, "ln_ic50", DRUGS, **QUICK) is None
    prediction = screen.obsm["ln_ic50_predicted"]
    assert list(prediction) == NAMES and prediction.index.equals(screen.obs_names)
    assert prediction.notna().all(axis=None)
    assert set(screen.uns["ln_ic50_predicted"]) == {"params", "versions", "genes", "history", "seconds", "fields"}
    assert torch.equal(torch.get_rng_state(), state)
    del screen.obsm["ln_ic50_predicted"], screen.uns["ln_ic50_predicted"]
    assert_unchanged(screen, before)


def test_new_cells_take_a_share_from_a_regression_and_measured_ones_none(screen):
    screen.obsm["ln_ic50"].iloc[1::2] = np.nan
    before = screen.copy()
    with pytest.raises(ValueError, match=r"linear_share is a share in \[0, 1\], found -1"):
        drug_response(screen, "ln_ic50", DRUGS, linear_share=-1, **QUICK)
    assert_unchanged(screen, before)
    found = {}
    for share in (0.0, 0.5, 1.0):
        drug_response(screen, "ln_ic50", DRUGS, linear_share=share, **QUICK)
        found[share] = screen.obsm["ln_ic50_predicted"].to_numpy()
    np.testing.assert_array_equal(found[0.5][::2], found[0.0][::2])
    np.testing.assert_allclose(found[0.5][1::2], (found[0.0] + found[1.0])[1::2] / 2, atol=1e-5)
    assert not np.allclose(found[1.0][1::2], found[0.0][1::2])


def test_a_long_table_says_the_same_and_the_result_can_be_written(screen, tmp_path):
    screen.obsm["ln_ic50"].iloc[::2, 0] = np.nan
    drug_response(screen, "ln_ic50", DRUGS, **QUICK)
    response = long_table(screen.obsm["ln_ic50"]).sample(frac=1, random_state=0)
    copied = drug_response(screen, response, DRUGS, key_added="again", copy=True, **QUICK)
    pd.testing.assert_frame_equal(copied.obsm["again"], screen.obsm["ln_ic50_predicted"])
    assert "again" not in screen.obsm
    copied.write_h5ad(tmp_path / "cells.h5ad")


def test_stands_on_a_trained_encoder_that_fits_and_takes_no_measured_response_away(screen, logged):
    encoder_cells = screen.copy()
    CellLM.setup_anndata(encoder_cells)
    encoder = CellLM(encoder_cells, n_latent=16, transformer={"n_layers": 1, "n_heads": 2})
    encoder.train(1, accelerator="cpu", enable_progress_bar=False)
    drug_response(screen, "ln_ic50", DRUGS, encoder=encoder, freeze_encoder=True, **QUICK)
    assert screen.obsm.pop("ln_ic50_predicted").notna().all(axis=None)
    del screen.uns["ln_ic50_predicted"]
    some = screen[:, 95:30:-1].copy()
    some.obsm["ln_ic50"].iloc[60:] = np.nan
    drug_response(some, "ln_ic50", DRUGS, encoder=encoder, freeze_encoder=True, **QUICK)
    assert some.obsm["ln_ic50_predicted"].notna().all(axis=None)
    assert logged().count("31 of the model's 96 genes are missing and take their mean") == 1
    before = screen.copy()
    with pytest.raises(ValueError, match=r"obsm\['ln_ic50'\] is there already, and sc_ssl has not written it"):
        drug_response(screen, "ln_ic50", DRUGS, key_added="ln_ic50", **QUICK)
    with pytest.raises(ValueError, match=r"trained on raw counts .* taken for scaled values"):
        drug_response(screen, "ln_ic50", DRUGS, encoder=encoder, input="scaled", **QUICK)
    assert_unchanged(screen, before)
    screen.var_names = [f"other_{g}" for g in range(screen.n_vars)]
    with pytest.raises(ValueError, match="needs 50% of its 96 genes, found 0"):
        drug_response(screen, "ln_ic50", DRUGS, encoder=encoder, **QUICK)


def test_repeated_rows_are_named(screen):
    table = long_table(screen.obsm["ln_ic50"])
    with pytest.raises(ValueError, match="more than one row of cell 'cell_0' and drug 'a'"):
        drug_response(screen, pd.concat([table, table[:1]]), DRUGS, **QUICK)


@pytest.mark.parametrize("input", ["log1p", "scaled"])
def test_other_expression_than_counts_is_taken_when_it_is_said(screen, input):
    screen.X = np.log1p(screen.X.toarray())
    if input == "scaled":
        screen.X = screen.X - screen.X.mean(axis=0)
    drug_response(screen, "ln_ic50", DRUGS, input=input, **QUICK)
    assert screen.obsm["ln_ic50_predicted"].shape == (120, 4)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"cell": "HeLa"}, ValueError, "names 1 of 1 cells that are not in adata.obs_names, for example 'HeLa'"),
        ({"drug": "magic"}, ValueError, "names 1 of 1 drugs that are not in drugs, for example 'magic'"),
        ({"drug": "a"}, ValueError, "more than one row of cell 'cell_0' and drug 'a'"),
    ],
)
def test_tables_that_do_not_fit_are_refused_and_leave_the_cells_unchanged(screen, change, error, message):
    before = screen.copy()
    with pytest.raises(error, match=message):
        drug_response(screen, long_table(screen.obsm["ln_ic50"]).assign(**change), DRUGS, **QUICK)
    assert_unchanged(screen, before)


def test_other_bad_input_is_refused_with_names(screen):
    response = long_table(screen.obsm["ln_ic50"])
    with pytest.raises(KeyError, match="response has no column 'drug'; it needs cell, drug, response"):
        drug_response(screen, response.drop(columns="drug"), DRUGS)
    with pytest.raises(ValueError, match="'response' holds numbers, found"):
        drug_response(screen, response.astype({"response": str}), DRUGS)
    with pytest.raises(TypeError, match="found a list"):
        drug_response(screen, response, NAMES)
    with pytest.raises(ValueError, match="at least 10 cells with a response are needed, found 2"):
        drug_response(screen, response[response["cell"].isin(["cell_0", "cell_1"])], DRUGS)
    with pytest.raises(ValueError, match="not among the 3 drugs given, for example 'd'"):
        drug_response(screen, "ln_ic50", DRUGS[:3])
    screen.X = np.log1p(screen.X)
    with pytest.raises(ValueError, match="X must hold raw counts"):
        drug_response(screen, "ln_ic50", DRUGS)


def test_a_bad_drug_without_responses_is_told_before_anything_is_trained(screen, monkeypatch):
    monkeypatch.setattr(DrugResponse, "train", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(ValueError, match="one length"):
        drug_response(screen, "ln_ic50", DRUGS.T.to_dict("list") | {"new": [1.0, 2.0]})
