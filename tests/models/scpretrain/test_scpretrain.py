"""scPretrain: pseudo-labels, heads and rounds."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from lightning.pytorch import Callback
from scipy import sparse
from small_models import training_cells
from small_studies import QUICK, build, studies
from torch import nn
from torch.nn import functional as F

from sc_ssl.data import CellLoader
from sc_ssl.models import ScPretrain
from sc_ssl.models.scpretrain.pseudo_labels import agreement, cluster_entropy, kmeans_labels

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
    monkeypatch.setattr("sc_ssl.models.scpretrain.pseudo_labels.find_spec", lambda name: None)
    z = ScPretrain.load(tmp_path / "model", counts).get_latent_representation()
    np.testing.assert_array_equal(z, model.get_latent_representation())


def test_faiss_that_is_not_there_or_cannot_be_is_refused(counts, monkeypatch):
    with pytest.raises(ValueError, match="kmeans='faiss' takes dense input"):
        build(counts, kmeans="faiss", cluster_on="raw")
    monkeypatch.setattr("sc_ssl.models.scpretrain.pseudo_labels.find_spec", lambda name: None)
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
    module = model.module.eval()
    minibatch = next(iter(model._loader(training_cells(model), None, 50)))
    h = torch.sigmoid(module.encoder(module.normalize(minibatch)))
    expected = 0.0
    for i in range(50):
        b = int(minibatch["batch"][i])
        logits = module.heads[b](h[i]).split(module.n_clusters_bj[b])
        for j, logit in enumerate(logits):
            label = module.label_nj[minibatch["cell"][i], j]
            weight = 1 / math.log(len(logit)) if task_weight == "log_k" else 1
            expected += weight * F.cross_entropy(logit, label) / 50
    assert module.loss_terms(minibatch)["cross_entropy"].item() == pytest.approx(expected.item(), rel=1e-5)


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
    loader = CellLoader(training_cells(model), np.arange(100), 100, shuffle=True)
    drawn = torch.cat([minibatch["cell"] for _ in range(20) for minibatch in loader])
    assert (drawn < 20).float().mean().item() == pytest.approx(share, abs=0.01)
    n = torch.bincount(drawn, minlength=100)[:20]
    assert n.max() <= 2 * n.float().mean()  # no cell is drawn over and over while others wait


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
