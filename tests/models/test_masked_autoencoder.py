"""MaskedAutoencoder: its masks, its likelihoods, its reconstruction and the published settings."""

import numpy as np
import pytest
import torch
from small_models import minibatches
from torch import nn

from sc_ssl import models
from sc_ssl.metrics import explained_variance
from sc_ssl.models import MaskedAutoencoder
from sc_ssl.tl import embed

QUICK = {"batch_size": 40, "enable_progress_bar": False, "accelerator": "cpu"}
PROGRAMS = {f"program_{p}": [f"gene_{i}" for i in range(p * 12, p * 12 + 12)] for p in range(6)}
REGULONS = {f"gene_{80 + p}": genes for p, genes in enumerate(PROGRAMS.values())}
MASKS = {
    "random_genes": {},
    "gene_programs": {"programs": PROGRAMS},
    "one_program": {"programs": PROGRAMS},
    "program_to_regulator": {"programs": REGULONS},
}


def build(adata, *, setup=None, **options):
    torch.manual_seed(0)
    MaskedAutoencoder.setup_anndata(adata, **(setup or {}))
    return MaskedAutoencoder(adata, **{"n_hidden": [32], "n_latent": 8} | options)


def fit(adata, *, max_epochs=2, **options):
    model = build(adata, **options)
    model.train(max_epochs, **QUICK)
    return model


def first(model, **more):
    return next(minibatches(model)) | more


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("likelihood", ["mse", "nb", "zinb", "poisson"])
def test_every_mask_trains_under_every_likelihood(counts, mask, likelihood):
    model = build(counts, mask=mask, likelihood=likelihood, **MASKS[mask])
    model.train(20, validation_size=0.5, **QUICK)
    loss = model.history[f"{likelihood}_validation"].to_numpy()  # of the same masks in each epoch
    assert np.isfinite(loss).all()
    if mask != "program_to_regulator":  # the factors here are no one's
        assert loss[-3:].mean() < loss[:3].mean()


@pytest.mark.parametrize("likelihood", ["mse", "poisson"])
def test_loss_is_the_mean_over_what_each_cell_has_scored(counts, likelihood):
    model = fit(counts, mask="gene_programs", programs=PROGRAMS, likelihood=likelihood)
    cells, module = first(model), model.module
    torch.manual_seed(3)
    loss = module.loss_terms(cells)[likelihood].item()
    torch.manual_seed(3)
    visible_ng, scored_ng = module.masking(40)
    with torch.no_grad():
        x_ng = module.normalize(cells)
        shown_ng = x_ng * visible_ng * (96 / visible_ng.sum(dim=1, keepdim=True))
        decoded = module.decode(module.encoder(shown_ng), cells)
    if likelihood == "mse":
        error_ng = (decoded * module.normalize.weight_g - x_ng) ** 2
    else:
        error_ng = -torch.distributions.Poisson(decoded.mean_ng).log_prob(cells["X"])
    assert loss == pytest.approx(
        np.mean([e[s].mean().item() for e, s in zip(error_ng, scored_ng, strict=True)]), rel=1e-4
    )


def test_loss_of_equal_errors_does_not_depend_on_the_rate(counts):
    losses = []
    for rate in (0.1, 0.5, 0.9):
        model = build(counts, mask_rate=rate)  # reconstructs every gene's mean
        losses.append(np.mean([model.module.loss_terms(first(model))["mse"].item() for _ in range(50)]))
    assert max(losses) < 1.1 * min(losses)


def test_only_scored_genes_get_a_gradient_and_only_visible_ones_matter(counts):
    model = fit(counts, mask="program_to_regulator", programs=REGULONS, weigh_genes=False)
    cells = first(model)
    model.module.zero_grad()
    model.module.loss_terms(cells)["mse"].backward()
    touched_g = model.module.decoder[-1].weight.grad.abs().sum(dim=1) > 0
    assert touched_g.nonzero().flatten().tolist() == [80, 81, 82, 83, 84, 85]
    seen_g = model.module.encoder[0].weight.grad.abs().sum(dim=0) > 0
    assert not seen_g[72:].any()
    assert seen_g[:72].float().mean() > 0.9


def test_a_gene_that_was_not_measured_is_not_scored(counts):
    model = fit(counts)
    measured_g = torch.ones(96, dtype=torch.bool)
    measured_g[:50] = False
    model.module.zero_grad()
    model.module.loss_terms(first(model, measured=measured_g))["mse"].backward()
    assert not model.module.decoder[-1].weight.grad[:50].any()
    assert model.module.decoder[-1].weight.grad[50:].any()


def test_masks_are_off_in_the_embedding_and_the_reconstruction(counts):
    model = fit(counts)
    cells = first(model)
    with torch.no_grad():
        assert torch.equal(model.module.embed(cells), model.module.encoder(model.module.normalize(cells)))
    assert model.module.loss_terms(cells)["mse"] != model.module.loss_terms(cells)["mse"]
    np.testing.assert_array_equal(model.get_reconstruction(), model.get_reconstruction())


@pytest.mark.parametrize("likelihood", ["mse", "nb", "zinb", "poisson"])
def test_reconstruction_comes_near_the_log_expression(build_counts, likelihood):
    counts = build_counts(depth=20.0)
    model = fit(counts, max_epochs=150, likelihood=likelihood, mask_rate=0.3)
    with torch.no_grad():
        x = torch.cat([model.module.normalize.log_expression(c) for c in minibatches(model)]).numpy()
    found = model.get_reconstruction()
    assert found.shape == x.shape
    markers = slice(0, 48)
    unexplained = (x - found)[:, markers].var(axis=0).sum() / x[:, markers].var(axis=0).sum()
    assert unexplained < 0.6
    assert found.max() > 1  # the authors' sigmoid could not


def test_masked_reconstruction_says_what_is_scored_and_no_more(counts):
    model = fit(counts, mask="gene_programs", programs=PROGRAMS)
    state = torch.get_rng_state()
    found = model.get_reconstruction(masked=True)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(found, model.get_reconstruction(masked=True))
    hidden = ~np.isnan(found)
    assert (hidden.sum(axis=1) == 36).all()
    assert not hidden[:, 72:].any()
    assert not np.allclose(found[hidden], model.get_reconstruction()[hidden])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_explained_variance_is_that_of_the_reconstruction_of_these_cells(build_counts, masked, weighted):
    counts, other = build_counts(), build_counts(40, seed=1)
    model = fit(counts, max_epochs=30)
    other = other[:, ::-1].copy()
    state = torch.get_rng_state()
    found = model.get_explained_variance(other, masked=masked, weighted=weighted, random_state=3)
    assert torch.equal(torch.get_rng_state(), state)
    log_ng = np.log1p(other.X.toarray() / other.X.sum(axis=1) * float(model.module.normalize.target_sum))[:, ::-1]
    decoded_ng = model.get_reconstruction(other, masked=masked, random_state=3)
    assert found == pytest.approx(explained_variance(log_ng, decoded_ng, weighted=weighted), abs=1e-4)
    with pytest.raises(ValueError, match="explained"):
        model.get_explained_variance(other, indices=[0])


def test_decoder_is_told_the_batch_and_takes_a_new_one(build_counts):
    counts = build_counts(n_batches=3)
    model = fit(counts, setup={"batch_key": "donor"})
    assert model.module.decoder[0].in_features == 8 + 3
    assert model.module.encoder[0].in_features == 96
    z_nd = torch.zeros(4, 8)
    cells = {"batch": torch.tensor([[0], [1], [2], [-1]])}
    model.module.decoder[-1].weight.data.normal_()
    decoded = model.module.decode(z_nd, cells)
    assert len(decoded.unique(dim=0)) == 4


def test_a_batch_that_the_decoder_does_not_know_is_embedded_and_not_trained_on(build_counts):
    counts = build_counts(n_batches=2)
    model = fit(counts, setup={"batch_key": "donor"})
    other = build_counts(30, seed=1)
    other.obs["donor"] = ["donor_0"] * 20 + ["donor_9"] * 10
    query = MaskedAutoencoder.load_query(model, other)
    assert np.isfinite(query.get_latent_representation()).all()
    with pytest.raises(ValueError, match=r"other batches than 'donor_9' in obs\['donor'\]"):
        query.train(1, **QUICK)
    for given in (None, other):
        with pytest.raises(ValueError, match="other batches than 'donor_9' .* it can only embed their cells"):
            query.get_reconstruction(given)
    assert model.get_reconstruction(other, indices=np.arange(20)).shape == (20, 96)


def test_unmeasured_programmes_and_bad_arguments_are_refused(counts):
    for options, message in (
        ({"mask": "squares"}, "mask is one of 'random_genes', .* found 'squares'"),
        ({"mask": "gene_programs"}, "needs programs"),
        ({"programs": PROGRAMS}, "mask='random_genes' reads no programs"),
        ({"mask": "gene_programs", "programs": {"UP": ["A", "B"]}}, "none of the 1 programmes has 5 measured genes"),
        ({"mask": "program_to_regulator", "programs": {"SP1": PROGRAMS["program_0"]}}, "none of the 1 regulons"),
        (
            {"mask": "program_to_regulator", "programs": REGULONS | {"SP1": PROGRAMS["program_0"]}},
            "1 of .* regulons have no transcription factor among the 96 genes: 'SP1'",
        ),
        ({"mask_rate": 0.0}, r"\(mask_rate\), the share .* in \(0, 1\), found 0"),
        ({"mask": "one_program", "programs": PROGRAMS, "mask_rate": None}, r"in \(0, 1\), found None"),
        ({"mask": "one_program", "programs": {"ALL": list(counts.var_names)}}, "programme 'ALL' holds all 96 genes"),
        ({"likelihood": "gamma"}, "likelihood is one of 'mse', .* found 'gamma'"),
        ({"norm": "group"}, "found 'group'"),
        ({"activation": "tanh"}, "activation is one of 'relu', 'selu', found 'tanh'"),
        ({"dropout_rate": 1.0}, r"dropout_rate lies in \[0, 1\), found 1"),
    ):
        with pytest.raises(ValueError, match=message):
            build(counts, **options)
    counts.X = np.log1p(counts.X / 3)
    with pytest.raises(ValueError, match="'nb' models raw counts"):
        build(counts, setup={"input": "log1p"}, likelihood="nb")


def test_a_saved_model_holds_its_programmes(counts, tmp_path):
    counts.uns["sets"] = PROGRAMS
    model = fit(counts, mask="gene_programs", programs="sets")
    model.save(tmp_path / "model")
    loaded = models.load(tmp_path / "model")
    del counts.uns["sets"]
    for masking in (model.module.masking, loaded.module.masking):
        assert masking.n_hidden == 36
    np.testing.assert_array_equal(
        loaded.get_reconstruction(counts, masked=True), model.get_reconstruction(counts, masked=True)
    )


def test_embed_finds_programmes_in_the_cells_and_keeps_a_record(counts, tmp_path):
    counts.uns["sets"] = PROGRAMS
    options = {"max_epochs": 3, "train_kwargs": {"enable_progress_bar": False}, "n_hidden": [16], "n_latent": 4}
    embed(counts, "mae", mask="gene_programs", programs="sets", **options)
    first = counts.obsm["X_mae"].copy()
    assert counts.uns["mae"]["params"]["model_kwargs"]["programs"] == "sets"
    embed(counts, "mae", mask="gene_programs", programs={"A/B": PROGRAMS["program_0"], **PROGRAMS}, **options)
    assert not np.array_equal(first, counts.obsm["X_mae"])
    counts.write_h5ad(tmp_path / "cells.h5ad")


def test_paper_has_the_published_network(counts):
    MaskedAutoencoder.setup_anndata(counts)
    model = MaskedAutoencoder.paper(counts, mask_rate=0.25)
    kinds = [type(layer) for layer in model.module.encoder]
    assert kinds == [nn.Linear, nn.SELU, nn.Dropout] * 4 + [nn.Linear]
    for part, expected in (
        (model.module.encoder, [512, 512, 256, 256, 64]),
        (model.module.decoder, [256, 256, 512, 512, 96]),
    ):
        assert [layer.out_features for layer in part if isinstance(layer, nn.Linear)] == expected
    assert model.module.masking.rate == 0.25
    assert (model.training.batch_size, model.training.plan) == (8192, {"lr": 1e-3, "weight_decay": 0.01})
