"""What both clustering autoencoders do: two phases, clusters, and the way back from a collapse."""

import math

import numpy as np
import pytest
import torch
from anndata import AnnData
from lightning.pytorch import Callback
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from sc_ssl import models
from sc_ssl.models import ScDeepCluster, ScziDesk
from sc_ssl.models.clustering.callback import ClusterWatch
from sc_ssl.tl import embed

QUICK = {"batch_size": 40, "enable_progress_bar": False, "accelerator": "cpu"}
SMALL = {"n_hidden": [32], "n_latent": 8}


@pytest.fixture(params=[ScDeepCluster, ScziDesk])
def model_class(request):
    return request.param


def build(model_class, adata, **options):
    torch.manual_seed(0)
    model_class.setup_anndata(adata)
    return model_class(adata, **SMALL | {"n_clusters": 3} | options)


def fit(model_class, adata, max_epochs=2, **options):
    model = build(model_class, adata, **options)
    model.train(max_epochs, **QUICK)
    return model


def n_pretrained(model):
    return len(model.history["pretrain_train_loss"])


class InterruptAt(Callback):
    """Ctrl-C at the start of an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, plan):
        if trainer.current_epoch == self.epoch:
            raise KeyboardInterrupt


# clusters


def test_clusters_find_the_types(model_class, build_counts):
    counts = build_counts(240)
    model = fit(model_class, counts, max_epochs=60)
    assert adjusted_rand_score(counts.obs["cell_type"], model.predict()) > 0.9


def test_soft_assignments_are_float32_probabilities_whose_largest_is_the_cluster(model_class, counts):
    model = fit(model_class, counts)
    proba = model.predict(soft=True)
    assert proba.shape == (120, 3)
    assert proba.dtype == np.float32
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(proba.argmax(axis=1), model.predict())


def test_prediction_takes_other_cells_and_indices(model_class, counts):
    model = fit(model_class, counts)
    everything = model.predict(soft=True)
    np.testing.assert_allclose(model.predict(counts[::-1].copy(), [3, 1], soft=True), everything[[116, 118]], atol=1e-5)


def test_untrained_model_predicts_nothing(model_class, counts):
    with pytest.raises(RuntimeError, match="train the model first"):
        build(model_class, counts).predict()


# the number of clusters


def test_number_of_clusters_is_chosen_without_being_given(model_class, build_counts, tmp_path):
    counts = build_counts(300)
    model = build(model_class, counts, n_clusters=None)
    assert model.n_clusters is None
    model.train(30, **QUICK)
    assert 3 <= model.n_clusters <= 6
    assert model.predict(soft=True).shape == (300, model.n_clusters)
    model.save(tmp_path / "model")
    loaded = model_class.load(tmp_path / "model", counts)
    assert loaded.n_clusters == model.n_clusters
    np.testing.assert_array_equal(loaded.predict(), model.predict())


@pytest.mark.parametrize(("n_clusters", "error"), [(2.5, TypeError), ("8", TypeError), (True, TypeError)])
def test_what_is_no_integer_is_refused(model_class, counts, n_clusters, error):
    with pytest.raises(error, match=f"n_clusters is an integer, or None to choose it, found {n_clusters!r}"):
        build(model_class, counts, n_clusters=n_clusters)


def test_a_numpy_integer_is_an_integer(model_class, counts):
    assert build(model_class, counts, n_clusters=np.int64(4)).n_clusters == 4


@pytest.mark.parametrize("n_clusters", [1, 0, -3])
def test_fewer_than_two_clusters_are_refused(model_class, counts, n_clusters):
    with pytest.raises(ValueError, match=f"at least 2, found {n_clusters}"):
        build(model_class, counts, n_clusters=n_clusters)


@pytest.mark.parametrize("n_clusters", [5, None])
def test_more_clusters_than_distinct_cells_are_refused(model_class, n_clusters):
    n_distinct = 4 if n_clusters else 1
    same = AnnData(sparse.csr_matrix(np.repeat(np.eye(n_distinct, 6, dtype=np.float32) + 1, 10, axis=0)))
    with pytest.raises(ValueError, match=f"need as many distinct cells, found {n_distinct}; lower n_clusters"):
        build(model_class, same, n_clusters=n_clusters)


def test_as_many_clusters_as_distinct_cells_train(model_class, build_counts):
    model = fit(model_class, build_counts(12), n_clusters=12)
    assert np.isfinite(model.predict(soft=True)).all()


# what is refused


def test_log1p_values_are_refused_with_the_remedy(model_class, counts):
    counts.X = np.log1p(counts.X / 3)
    model_class.setup_anndata(counts, input="log1p")
    with pytest.raises(ValueError, match="models raw counts, found input='log1p'; register raw counts"):
        model_class(counts)


@pytest.mark.parametrize("pretrain_epochs", [0, 1.5])
def test_pretraining_takes_a_number_of_epochs(model_class, counts, pretrain_epochs):
    with pytest.raises(ValueError, match=f"pretrain_epochs is an integer, at least 1, found {pretrain_epochs}"):
        build(model_class, counts, pretrain_epochs=pretrain_epochs)


# two phases


def test_the_autoencoder_is_trained_once_and_max_epochs_bounds_both_phases(model_class, counts):
    model = fit(model_class, counts, max_epochs=3)
    assert (n_pretrained(model), len(model.history["train_loss"])) == (3, 3)
    model.train(2, **QUICK)
    assert (n_pretrained(model), len(model.history["train_loss"])) == (3, 5)


def test_phases_after_loading_are_those_without_loading(model_class, counts, tmp_path):
    model = fit(model_class, counts, max_epochs=3)
    model.save(tmp_path / "model")
    loaded = model_class.load(tmp_path / "model", counts)
    for either in (model, loaded):
        torch.manual_seed(7)
        either.train(2, **QUICK)
    np.testing.assert_array_equal(loaded.predict(soft=True), model.predict(soft=True))


# the watch over the clusters


class Watched(ClusterWatch):
    """Sees the silhouettes that it is given."""

    def __init__(self, model, silhouettes):
        super().__init__(model)
        self.silhouettes = iter(silhouettes)
        self.states = []

    def _silhouette(self):
        self.states.append(self._state())
        return next(self.silhouettes)


def train_watched(model_class, adata, silhouettes, monkeypatch):
    model = build(model_class, adata)
    watch = Watched(model, silhouettes)
    monkeypatch.setattr(models.clustering.base, "ClusterWatch", lambda model, **options: watch)
    model.train(len(silhouettes) - 1, **QUICK)
    return model, watch


def test_clusters_that_fall_apart_are_taken_back_to_the_best_state(model_class, counts, monkeypatch):
    model, watch = train_watched(model_class, counts, [0.3, 0.4, 0.39, 0.37, 0.5, 0.5], monkeypatch)
    assert len(model.history["train_loss"]) == 3
    for name, tensor in model.module.state_dict().items():
        assert torch.equal(tensor, watch.states[1][name]), name


def test_without_bound_no_fall_is_too_far(model_class, counts):
    model = build(model_class, counts)
    model.train(8, tolerance=math.inf, plan_kwargs={"lr": 1e-2}, **QUICK)
    assert len(model.history["train_loss"]) == 8
    with pytest.raises(ValueError, match="at least 0, found -1"):
        model.train(8, tolerance=-1, **QUICK)


def test_small_falls_are_let_be(model_class, counts, monkeypatch):
    model, watch = train_watched(model_class, counts, [0.3, 0.4, 0.39, 0.385], monkeypatch)
    assert len(model.history["train_loss"]) == 3
    assert torch.equal(model.module.center_kd, watch.states[-1]["center_kd"])


def test_training_ends_when_no_cell_changes_its_cluster(model_class, counts):
    model = build(model_class, counts)
    model.train(40, plan_kwargs={"lr": 1e-9}, **QUICK)
    assert len(model.history["train_loss"]) == 10
    assert (model.history["cluster_change"] == 0).all(axis=None)


def test_an_empty_cluster_starts_again_at_the_farthest_cell(model_class, counts, caplog):
    model = fit(model_class, counts)
    with torch.no_grad():
        model.module.center_kd[1] = 1e3
    label_n, z_nd = model.predict(), model.get_latent_representation()
    far = ((z_nd - model.module.center_kd.detach().numpy()[label_n]) ** 2).sum(axis=1).argmax()
    ClusterWatch(model)._look()
    np.testing.assert_allclose(model.module.center_kd[1].detach(), z_nd[far], atol=1e-6)
    assert set(model.predict()) == {0, 1, 2}


def test_silhouette_of_one_cluster_is_the_worst(model_class, counts):
    model = fit(model_class, counts)
    watch = ClusterWatch(model)
    watch.on_train_start(None, None)
    watch._labels = [np.zeros(120, dtype=int)]
    assert watch._silhouette() == -1
    watch._labels = [counts.obs["cell_type"].cat.codes.to_numpy()]
    by_type = watch._silhouette()
    watch._labels = [np.random.default_rng(0).permutation(watch._labels[0])]
    assert -1 < watch._silhouette() < by_type


# the likelihood


def test_unmeasured_genes_are_not_scored(model_class, counts):
    model = fit(model_class, counts)
    module = model.module.autoencoder
    module.noise_sd = 0.0
    minibatch = next(iter(model._loader(model._own_cells())))
    measured_g = torch.arange(96) >= 20
    changed = minibatch | {"X": minibatch["X"] + 50.0 * ~measured_g, "measured": measured_g}
    with torch.no_grad():
        x_ng = module.normalize(changed)
        found = module.loss_terms(changed)
        expected = module.loss_terms(minibatch | {"measured": measured_g, "normalized": x_ng})
    torch.testing.assert_close(found, expected)


def test_library_size_scales_the_expected_counts(model_class, counts):
    counts.obs["library"] = np.asarray(counts.X.sum(axis=1)).ravel()
    model_class.setup_anndata(counts, library_size_key="library")
    torch.manual_seed(0)
    model = model_class(counts, n_clusters=3, **SMALL)
    target = model.module.normalize.target_sum
    assert target == pytest.approx(np.median(counts.obs["library"]))


# through tl.embed


@pytest.mark.parametrize("key_added", [None, "mine"])
def test_embed_writes_clusters_and_probabilities(model_class, counts, key_added):
    method = model_class.__name__.lower()
    train = {key: value for key, value in QUICK.items() if key != "accelerator"}
    options = {"max_epochs": 2, "accelerator": "cpu", "train_kwargs": train, "key_added": key_added}
    before = counts.copy()
    embed(counts, method, n_clusters=3, **SMALL, **options)
    name = key_added or method
    clusters, proba = counts.obs[f"{name}_cluster"], counts.obsm[f"{name}_cluster_proba"]
    assert list(clusters.cat.categories) == ["0", "1", "2"]
    assert proba.shape == (120, 3)
    assert proba.dtype == np.float32
    np.testing.assert_array_equal(clusters.astype(int), proba.argmax(axis=1))
    assert set(counts.obs) - set(before.obs) == {f"{name}_cluster"}
    assert set(counts.obsm) == {key_added or f"X_{method}", f"{name}_cluster_proba"}


def test_embed_of_new_cells_writes_the_same_clusters(model_class, counts, tmp_path):
    method = model_class.__name__.lower()
    train = {key: value for key, value in QUICK.items() if key != "accelerator"}
    embed(counts, method, n_clusters=3, max_epochs=2, train_kwargs=train, save_model=tmp_path / "model", **SMALL)
    query = counts[:30].copy()
    del query.obs[f"{method}_cluster"], query.obsm[f"{method}_cluster_proba"]
    embed(query, tmp_path / "model")
    assert list(query.obs[f"{method}_cluster"]) == list(counts.obs[f"{method}_cluster"][:30])


def test_error_leaves_the_cells_unchanged(model_class, counts):
    before = counts.copy()
    with pytest.raises(ValueError, match="121 clusters need as many distinct cells, found 120"):
        embed(counts, model_class.__name__.lower(), n_clusters=121)
    assert counts.obs.equals(before.obs)
    assert not counts.obsm
    assert not counts.uns
