"""scPretrain: pseudo-labels, heads, rounds, and several data sets in one model."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from lightning.pytorch import Callback
from scipy import sparse
from torch import nn
from torch.nn import functional as F

from sc_ssl.data import CellLoader, GeneVocabulary
from sc_ssl.models import ScPretrain
from sc_ssl.models._pseudo_labels import agreement, cluster_entropy, kmeans_labels, label_cells
from sc_ssl.tl import embed

QUICK = {"batch_size": 40, "enable_progress_bar": False, "accelerator": "cpu"}
SMALL = {"n_latent": 8, "cells_per_cluster": [20, 40]}


def build(counts, **options):
    ScPretrain.setup_anndata(counts, batch_key=options.pop("batch_key", None))
    return ScPretrain(counts, **SMALL | options)


def studies(build_counts, species="human"):
    """Two data sets that share the last 64 genes of the first; human-like names."""
    first, second = build_counts(120), build_counts(60, seed=1)
    first.var_names = [f"GENE{i}" for i in range(96)]
    second.var_names = [f"GENE{i + 32}" for i in range(96)]
    return {"first": first, "second": second}


# pseudo-labels


def test_faiss_finds_the_same_groups():
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    group = rng.integers(4, size=400)
    x = (rng.normal(size=(400, 5)) + 20 * np.eye(5)[group]).astype(np.float32)
    found = kmeans_labels(x, 4, seed=0, kmeans="faiss")
    assert agreement(found, group) == pytest.approx(1)
    np.testing.assert_array_equal(kmeans_labels(x, 4, seed=0, kmeans="faiss"), found)
    assert np.bincount(kmeans_labels(np.repeat(x[:5], 8, axis=0), 12, seed=0, kmeans="faiss"), minlength=12).min() > 0


def test_a_model_trains_on_clusters_of_faiss(counts):
    pytest.importorskip("faiss")
    model = build(counts, kmeans="faiss", recluster_every=1)
    model.train(2, **QUICK)
    assert np.isfinite(model.get_latent_representation()).all()


def test_a_model_of_faiss_embeds_without_it(counts, tmp_path, monkeypatch):
    pytest.importorskip("faiss")
    model = build(counts, kmeans="faiss")
    model.train(1, **QUICK)
    model.save(tmp_path / "model")
    monkeypatch.setattr("sc_ssl.models._pseudo_labels.find_spec", lambda name: None)
    z = ScPretrain.load(tmp_path / "model", counts).get_latent_representation()
    np.testing.assert_array_equal(z, model.get_latent_representation())


def test_faiss_that_is_not_there_or_cannot_be_is_refused(counts, monkeypatch):
    with pytest.raises(ValueError, match="kmeans='faiss' takes dense input"):
        build(counts, kmeans="faiss", cluster_on="raw")
    monkeypatch.setattr("sc_ssl.models._pseudo_labels.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"sc_ssl\[faiss\]"):
        build(counts, kmeans="faiss")


def test_no_cluster_is_empty_and_the_matrix_may_be_sparse():
    x = np.repeat(
        np.random.default_rng(0).normal(size=(3, 4)), 20, axis=0
    )  # three points: K-means of 12 leaves many empty
    for space in (x, sparse.csr_matrix(x)):
        assert np.bincount(kmeans_labels(space, 12, seed=0), minlength=12).min() > 0


def test_clusters_are_those_of_well_separated_groups():
    group = np.repeat(np.arange(4), 50)
    x = 20 * np.eye(4)[group] + np.random.default_rng(0).normal(size=(200, 4))
    assert agreement(kmeans_labels(x, 4, seed=0), group) == pytest.approx(1)


def test_entropy_is_one_for_equal_clusters():
    assert cluster_entropy(np.repeat([0, 1, 2], 5), 3) == pytest.approx(1)
    share = np.array([0.9, 0.1])
    assert cluster_entropy(np.repeat([0, 1], [9, 1]), 2) == pytest.approx(-(share * np.log2(share)).sum())


def test_number_of_clusters_follows_the_mean_sizes(build_counts):
    model = build(build_counts(n_batches=2), batch_key="donor")
    assert model.module.n_clusters_bj == [[3, 2], [3, 2]]
    assert [head.out_features for head in model.module.heads] == [5, 5]


# the loss


@pytest.mark.parametrize("task_weight", ["none", "log_k"])
def test_loss_is_the_cross_entropy_of_each_cells_own_heads(build_counts, task_weight):
    model = build(build_counts(n_batches=2), batch_key="donor", task_weight=task_weight)
    label_cells(model, on_latent=False)
    module = model.module.eval()
    minibatch = next(iter(model._loader(model._training_cells(), None, 50)))
    h = torch.sigmoid(module.encoder(module.normalize(minibatch)))
    expected = 0.0
    for i in range(50):
        b = int(minibatch["batch"][i])
        logits = module.heads[b](h[i]).split(module.n_clusters_bj[b])
        for j, logit in enumerate(logits):
            label = module.label_nj[minibatch["cell"][i], j]
            weight = 1 / math.log(len(logit)) if task_weight == "log_k" else 1
            expected += weight * F.cross_entropy(logit, label) / 50
    assert module.ssl_loss(minibatch)["cross_entropy"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_batches_are_clustered_each_by_itself(build_counts):
    counts = build_counts(n_batches=2)
    model = build(counts, batch_key="donor")
    model.train(1, **QUICK)
    labels = model.get_pseudo_labels()
    assert labels.shape == (120, 2)
    for donor in counts.obs["donor"].cat.categories:
        own = labels[(counts.obs["donor"] == donor).to_numpy()]
        assert np.unique(own[:, 0]).tolist() == [0, 1, 2]
        assert np.unique(own[:, 1]).tolist() == [0, 1]


# rounds


def test_a_new_round_starts_the_heads_and_their_optimiser_again_and_leaves_the_encoder(build_counts):
    model = build(build_counts(), recluster_every=2)
    seen = []

    class Watch(Callback):
        def on_train_epoch_start(self, trainer, plan):
            state = trainer.optimizers[0].state
            module = model.module
            seen.append(
                {
                    "encoder": module.encoder.weight.detach().clone(),
                    "head": module.heads[0].weight.detach().clone(),
                    "head steps": len(state.get(module.heads[0].weight, {})),
                    "encoder steps": len(state.get(module.encoder.weight, {})),
                    "labels": model.get_pseudo_labels(),
                }
            )

        def on_train_epoch_end(self, trainer, plan):
            seen[-1]["after"] = {n: p.detach().clone() for n, p in model.module.named_parameters()}

    model.train(3, callbacks=[Watch()], **QUICK)
    first, second, third = seen
    assert torch.equal(second["head"], first["after"]["heads.0.weight"])
    assert not torch.equal(third["head"], second["after"]["heads.0.weight"])
    assert torch.equal(third["encoder"], second["after"]["encoder.weight"])
    assert (second["head steps"] > 0, third["head steps"], third["encoder steps"] > 0) == (True, 0, True)
    agreements = model.history["agreement_0_20"]["agreement_0_20"]
    assert agreements.tolist()[:2] == [0, 0]
    assert agreements.iloc[2] == pytest.approx(agreement(second["labels"][:, 0], third["labels"][:, 0]))


def test_history_follows_every_task(build_counts):
    model = build(build_counts(n_batches=2), batch_key="donor", recluster_every=100)
    model.train(60, plan_kwargs={"lr": 1e-2}, **QUICK)
    for task in ("donor_0_20", "donor_1_40"):
        accuracy = model.history[f"accuracy_{task}"][f"accuracy_{task}"]
        assert accuracy.iloc[-1] > accuracy.iloc[0]
        assert accuracy.between(0, 1).all()
        assert model.history[f"entropy_{task}"][f"entropy_{task}"].between(0, 1).all()


def test_saved_labels_come_back(build_counts, tmp_path):
    counts = build_counts()
    model = build(counts)
    model.train(2, **QUICK)
    model.save(tmp_path / "model")
    loaded = ScPretrain.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.get_pseudo_labels(), model.get_pseudo_labels())


def test_cells_of_another_data_set_are_embedded_but_not_trained_on(build_counts):
    model = build(build_counts(n_batches=2), batch_key="donor")
    model.train(1, **QUICK)
    query = build_counts(20, seed=3)
    del query.obs["donor"]
    assert model.get_latent_representation(query).shape == (20, 8)
    with pytest.raises(ValueError, match="found 20 cells of others"):
        ScPretrain.load_query(model, query).train(1, **QUICK)


# sampling


@pytest.mark.parametrize(("exponent", "share"), [(1.0, 0.2), (0.5, 1 / 3), (0.0, 0.5)])
def test_data_sets_are_drawn_as_often_as_the_exponent_says(build_counts, exponent, share):
    counts = build_counts(100)
    counts.obs["study"] = pd.Categorical(["small"] * 20 + ["large"] * 80)
    model = build(counts, batch_key="study", sampling_exponent=exponent)
    loader = CellLoader(model._training_cells(), np.arange(100), 100, shuffle=True)
    drawn = torch.cat([minibatch["cell"] for _ in range(20) for minibatch in loader])
    assert (drawn < 20).float().mean().item() == pytest.approx(share, abs=0.01)
    n = torch.bincount(drawn, minlength=100)[:20]
    assert n.max() <= 2 * n.float().mean()  # no cell is drawn over and over while others wait


# several data sets


def test_union_of_genes_and_library_sizes_over_all_genes(build_counts):
    data = studies(build_counts)
    model = ScPretrain.from_adatas(data, **SMALL)
    assert set(model.var_names) == {f"GENE{i}" for i in range(128)}
    sizes = np.concatenate([np.asarray(a.X.sum(axis=1)).ravel() for a in data.values()])
    np.testing.assert_allclose(model._own_cells().size_factor, sizes)
    shared = ScPretrain.from_adatas(data, min_datasets=2, **SMALL)
    assert set(shared.var_names) == {f"GENE{i}" for i in range(32, 96)}
    np.testing.assert_allclose(shared._own_cells().size_factor, sizes)


@pytest.mark.parametrize("scale", ["cp10k", "zscore"])
def test_a_gene_that_a_data_set_did_not_measure_is_no_zero_and_gets_no_gradient(build_counts, scale):
    model = ScPretrain.from_adatas(studies(build_counts), scale=scale, **SMALL)
    model.train(1, **QUICK)
    x = torch.cat([model.module.normalize(cells) for cells in model._loader(model._own_cells())])
    gene = model.var_names.index("GENE3")  # only in the first
    assert (x[120:, gene] == 0).all()
    assert (x[:120, gene] != 0).all()
    assert x[:120, gene].mean() == pytest.approx(0, abs=0.05)  # centred over the cells that measured it
    first = model._own_cells().matrix[:120].toarray()
    logged = np.log1p(1e4 * first / model._own_cells().size_factor[:120, None])[:, gene]
    sd = logged.std() if scale == "zscore" else 1
    np.testing.assert_allclose(x[:120, gene], (logged - logged.mean()) / sd, atol=1e-3)
    model.module.zero_grad()
    cells = next(iter(model._loader(model._training_cells(), np.arange(120, 180))))
    model.module.ssl_loss(cells)["cross_entropy"].backward()
    assert (model.module.encoder.weight.grad[:, gene] == 0).all()
    assert (model.module.encoder.weight.grad[:, model.var_names.index("GENE40")] != 0).any()


def test_data_sets_are_not_changed_and_names_may_repeat_across_them(build_counts):
    data = studies(build_counts)
    before = {name: adata.copy() for name, adata in data.items()}
    ScPretrain.from_adatas(data, **SMALL).train(1, **QUICK)
    for name, adata in data.items():
        assert adata.obs.equals(before[name].obs)
        assert dict(adata.uns) == {}
        assert (adata.X != before[name].X).nnz == 0


def test_species_are_told_apart_and_mapped(build_counts):
    data = studies(build_counts)
    data["second"].var_names = [f"Gene{i + 32}" for i in range(96)]
    with pytest.raises(ValueError, match="first: human, second: mouse.* need orthologs="):
        ScPretrain.from_adatas(data, **SMALL)
    names = {"lemur": "LOC{}", "human": "GENE{}", "mouse": "Gene{}"}
    table = pd.DataFrame({species: [name.format(i) for i in range(128)] for species, name in names.items()})
    model = ScPretrain.from_adatas(data, orthologs=table, across="intersection", **SMALL)
    assert set(model.var_names) == {f"GENE{i}" for i in range(32, 96)}
    sizes = np.asarray(data["second"].X.sum(axis=1)).ravel()
    np.testing.assert_allclose(model._own_cells().size_factor[120:], sizes)
    assert model.vocabulary.species == "human"


def test_the_vocabulary_is_kept(build_counts, tmp_path):
    model = ScPretrain.from_adatas(studies(build_counts), species={"first": "pig", "second": "pig"}, **SMALL)
    model.train(1, **QUICK)
    model.save(tmp_path / "model")
    loaded = ScPretrain.load(tmp_path / "model").vocabulary
    assert (loaded.species, loaded.genes) == ("pig", tuple(model.var_names))
    assert loaded.hash == model.vocabulary.hash != GeneVocabulary(loaded.genes, "human").hash


def test_trained_on_several_it_embeds_a_new_one(build_counts):
    model = ScPretrain.from_adatas(studies(build_counts), n_top_genes=60, **SMALL)
    model.train(2, **QUICK)
    assert len(model.var_names) == 60
    new = build_counts(30, seed=5)
    new.var_names = [f"GENE{i}" for i in range(96)]
    embed(new, model)
    assert new.obsm["X_scpretrain"].shape == (30, 8)
    np.testing.assert_allclose(new.obsm["X_scpretrain"], model.get_latent_representation(new), atol=1e-5)


def rename(names):
    def change(data):
        data["second"].var_names = names

    return change


def too_few(data):
    data["second"] = data["second"][:4].copy()


def logged(data):
    data["second"].X = np.log1p(data["second"].X)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename([f"WORM{i}" for i in range(96)]), "'first' shares no gene with the others"),
        (rename([f"ENSG{i:011}" for i in range(96)]), "same kind of gene names, found first: symbol, second: ensembl"),
        (rename([f"ENSG{i:011}" if i % 2 else f"GENE{i}" for i in range(96)]), "50% Ensembl ids"),
        (too_few, "data set 'second': at least 10 cells are needed, found 4"),
        (logged, "data set 'second': X must hold raw counts"),
    ],
    ids=["no shared genes", "other names", "mixed names", "too few cells", "log1p"],
)
def test_data_sets_that_do_not_fit_are_named(build_counts, change, message):
    data = studies(build_counts)
    change(data)
    with pytest.raises(ValueError, match=message):
        ScPretrain.from_adatas(data, **SMALL)


def test_data_sets_without_names_of_their_own_are_refused(counts):
    with pytest.raises(ValueError, match="at least one data set"):
        ScPretrain.from_adatas({})
    with pytest.raises(TypeError, match="given by name, .* found a list"):
        ScPretrain.from_adatas([counts])
    with pytest.raises(ValueError, match="a name of its own, found '1' twice"):
        ScPretrain.from_adatas({1: counts, "1": counts})
    assert ScPretrain.from_adatas({1: counts, 2: counts}, **SMALL).datasets == ["1", "2"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_clusters": [[2, 3]]}, "a row for each of 2 data sets with a number for each of 2 mean sizes"),
        ({"n_clusters": [[2, 3], [1, 3]]}, "data set 'second' of 60 cells can have 2 to 60 clusters, found .*1, 3"),
        ({"n_clusters": [[2, 300], [2, 3]]}, "data set 'first' of 120 cells can have 2 to 120 clusters"),
        ({"min_datasets": 3}, "between 1 and the number of data sets, 2, found 3"),
        ({"n_top_genes": 0}, "n_top_genes is at least 2, found 0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(build_counts, options, message):
    with pytest.raises(ValueError, match=message):
        ScPretrain.from_adatas(studies(build_counts), **SMALL | options)


def test_a_data_set_whose_cells_are_all_alike_is_named(build_counts):
    data = studies(build_counts)
    data["second"].X = sparse.csr_matrix(np.ones(data["second"].shape, np.float32))
    with pytest.raises(ValueError, match="data set 'second': no gene varies"):
        ScPretrain.from_adatas(data, **SMALL).train(1, **QUICK)


# settings


def test_paper_settings(build_counts):
    model = ScPretrain.from_adatas(studies(build_counts), replicate="paper")
    assert isinstance(model.module.encoder, nn.Linear)
    assert model.module.encoder.out_features == 200
    assert isinstance(model.module.gate, nn.Sigmoid)
    assert (model.training.max_epochs, model.recluster_every, model.training.batch_size) == (500, 50, 6)
    assert model.training.plan == {"lr": 1e-4, "schedule": "constant"}
    cells = next(iter(model._loader(model._own_cells())))
    torch.testing.assert_close(model.module.normalize(cells), torch.log1p(cells["X"]))
    with pytest.raises(ValueError, match="takes no further settings"):
        ScPretrain.from_adatas(studies(build_counts), replicate="paper", n_latent=3)


@pytest.mark.parametrize(
    "options", [{"encoder": "mlp"}, {"gate": "relu"}, {"scale": "zscore"}, {"scale": "log1p"}, {"cluster_on": "raw"}]
)
def test_other_settings_train(build_counts, options):
    model = build(build_counts(), **options)
    model.train(2, **QUICK)
    assert np.isfinite(model.get_latent_representation()).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "cnn"}, "encoder is one of 'linear', 'mlp', found 'cnn'"),
        ({"recluster_every": 0}, "at least 1"),
        ({"cells_per_cluster": [1]}, "mean cluster size at least 2"),
    ],
)
def test_unknown_settings_are_refused(counts, options, message):
    with pytest.raises(ValueError, match=message):
        build(counts, **options)


def test_an_empty_cell_and_a_data_set_of_one_type_train(build_counts):
    one = build_counts(40, n_types=1)
    x = one.X.toarray()
    x[3] = 0
    model = build(AnnData(sparse.csr_matrix(x), var=one.var))
    model.train(2, **QUICK)
    assert np.isfinite(model.get_latent_representation()).all()
