"""What every model promises, whatever its method; a new class in ``METHODS`` is tested without a word."""

import copy
import gc
import importlib
import json
import logging
import pickle
import signal
import subprocess
import sys
import weakref

import anndata as ad
import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from scipy import sparse
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from sc_ssl import models
from sc_ssl._keys import METHODS
from sc_ssl.tl import embed

#: small models, so that a test takes milliseconds; a class that is not here is built with its own defaults
SMALL = {
    "ContrastiveSC": {"n_hidden": [32], "n_latent": 8},
    "MaskSC": {
        "n_hidden": 16,
        "n_layers": 1,
        "n_heads": 2,
        "n_latent": 8,
        "patch_size": 16,
    },
    "ScPretrain": {"n_latent": 8, "cells_per_cluster": [20, 40], "recluster_every": 100},
    "ScDeepCluster": {"n_clusters": 3, "n_hidden": [32], "n_latent": 8},
    "ScziDesk": {"n_clusters": 3, "n_hidden": [32], "n_latent": 8},
}
QUICK = {"batch_size": 40, "enable_progress_bar": False, "accelerator": "cpu"}


def build(model_class, adata, *, seed=0, **setup):
    torch.manual_seed(seed)
    model_class.setup_anndata(adata, **setup)
    return model_class(adata, **SMALL.get(model_class.__name__, {}))


def fit(model_class, adata, *, seed=0, max_epochs=2, setup=None, **options):
    model = build(model_class, adata, seed=seed, **(setup or {}))
    model.train(max_epochs, **QUICK | options)
    return model


def method_of(model_class):
    return {class_name: method for method, class_name in METHODS.items()}[model_class.__name__]


class Interrupt(Callback):
    """Ctrl-C in the second epoch of the fit of one module."""

    def __init__(self, module):
        self.module = module

    def on_train_epoch_start(self, trainer, plan):
        if plan.module is self.module and trainer.current_epoch == 1:
            raise KeyboardInterrupt


class Modes(Callback):
    """Notes which sub-modules of a module are in train mode at the end of an epoch of its fit."""

    def __init__(self, module):
        self.module, self.training = module, {}

    def on_train_batch_end(self, trainer, plan, *_):
        if plan.module is self.module:
            self.training = {name: part.training for name, part in self.module.named_modules()}


@pytest.fixture(scope="module", params=list(METHODS.values()))
def model_class(request):
    return getattr(models, request.param)


@pytest.fixture(scope="module")
def cells(build_counts):
    """The cells that the shared model is trained on; not to be changed."""
    return build_counts()


@pytest.fixture(scope="module")
def trained(model_class, cells):
    """A model after two epochs; not to be changed."""
    return fit(model_class, cells.copy())


@pytest.fixture(scope="module")
def embedding(trained):
    return trained.get_latent_representation()


@pytest.fixture
def warnings_logged(caplog):
    """Lines that sc_ssl's logger says at level warning."""
    logger = logging.getLogger("sc_ssl")
    logger.addHandler(caplog.handler)
    yield lambda: [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    logger.removeHandler(caplog.handler)


# the embedding


def test_embedding_is_finite_float32_with_a_row_a_cell(embedding, cells):
    assert embedding.dtype == np.float32
    assert embedding.ndim == 2
    assert len(embedding) == cells.n_obs
    assert np.isfinite(embedding).all()


def test_embedding_twice_is_identical(trained, embedding):
    np.testing.assert_array_equal(trained.get_latent_representation(), embedding)


@pytest.mark.parametrize("batch_size", [1, 7, 119])
def test_embedding_does_not_depend_on_the_batch_size(trained, embedding, batch_size):
    np.testing.assert_allclose(trained.get_latent_representation(batch_size=batch_size), embedding, atol=1e-5)


def test_embedding_does_not_depend_on_batch_mates(trained, embedding):
    alone = np.concatenate([trained.get_latent_representation(indices=[i]) for i in (0, 5, 119)])
    np.testing.assert_allclose(alone, embedding[[0, 5, 119]], atol=1e-5)


def test_embedding_does_not_depend_on_the_order_of_the_cells(trained, embedding, cells):
    order = np.random.default_rng(1).permutation(cells.n_obs)
    np.testing.assert_allclose(trained.get_latent_representation(cells[order].copy()), embedding[order], atol=1e-5)


@pytest.mark.parametrize(
    "indices",
    [[3], [7, 2, 90], [4, 4, 1, 4], np.arange(119, -1, -1), np.arange(120) % 3 == 0, [-1, 0]],
    ids=["one", "unsorted", "repeated", "reversed", "boolean", "negative"],
)
@pytest.mark.parametrize("given", [False, True], ids=["own cells", "given cells"])
def test_rows_come_in_the_order_of_the_indices(trained, embedding, cells, indices, given):
    found = trained.get_latent_representation(cells if given else None, indices=indices)
    np.testing.assert_allclose(found, embedding[np.asarray(indices)], atol=1e-5)


def test_indices_of_backed_cells_come_in_their_order(trained, embedding, cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    indices = [70, 3, 70, 119, 0]
    np.testing.assert_allclose(trained.get_latent_representation(backed, indices), embedding[indices], atol=1e-5)
    backed.file.close()


def test_embedding_leaves_the_given_cells_unchanged(trained, cells):
    query = cells.copy()
    before = query.copy()
    trained.get_latent_representation(query)
    assert_unchanged(query, before)


def test_one_cell_can_be_embedded(trained, embedding, cells):
    np.testing.assert_allclose(trained.get_latent_representation(cells[:1].copy()), embedding[:1], atol=1e-5)


def test_untrained_model_embeds_nothing(model_class, counts):
    model = build(model_class, counts)
    with pytest.raises(RuntimeError, match="train the model first"):
        model.get_latent_representation()


def assert_unchanged(found, before):
    for name in ("obs", "var"):
        assert getattr(found, name).equals(getattr(before, name))
    assert dict(found.uns) == dict(before.uns)
    assert set(found.obsm) == set(before.obsm)
    assert set(found.layers) == set(before.layers)
    assert (found.X != before.X).nnz == 0


# the loss


def test_every_trainable_parameter_gets_a_gradient(model_class, counts):
    model = fit(model_class, counts)
    training_cells = model._training_cells(max_epochs=1)
    model.module.train()
    model.module.zero_grad()
    losses = [sum(model.module.ssl_loss(minibatch).values()) for minibatch in model._loader(training_cells, None, 40)]
    sum(losses).backward()
    without = [
        name for name, p in model.module.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())
    ]
    frozen = [name for name, p in model.module.named_parameters() if not p.requires_grad and p.grad is not None]
    assert not without
    assert not frozen


def test_loss_terms_are_finite_scalars(trained):
    minibatch = next(iter(trained._loader(trained._training_cells(max_epochs=1), None, 40)))
    for term in trained.module.ssl_loss(minibatch).values():
        assert term.shape == ()
        assert torch.isfinite(term)


def test_loss_falls_on_structured_data(model_class, counts):
    loss = fit(model_class, counts, max_epochs=30).history["train_loss"]["train_loss"]
    assert loss[-3:].mean() < loss[:3].mean()


def test_embedding_tells_the_types_apart(model_class, build_counts):
    counts = build_counts()
    z = fit(model_class, counts, max_epochs=30).get_latent_representation()
    assert (z.std(axis=0) > 1e-3).any()
    accuracy = cross_val_score(KNeighborsClassifier(5), z, counts.obs["cell_type"], cv=4).mean()
    assert accuracy > 0.7  # chance is a third


# randomness


def test_same_seed_is_bit_identical(model_class, trained, embedding, cells):
    np.testing.assert_array_equal(fit(model_class, cells.copy()).get_latent_representation(), embedding)


def test_another_seed_differs(model_class, embedding, cells):
    other = fit(model_class, cells.copy(), seed=1).get_latent_representation()
    assert not np.allclose(other, embedding)


# training


@pytest.mark.parametrize("n_cells", [12, 39, 41, 81])
def test_any_number_of_cells_trains(model_class, build_counts, n_cells):
    model = fit(model_class, build_counts(n_cells))
    assert np.isfinite(model.get_latent_representation()).all()
    assert np.isfinite(model.history["train_loss"].to_numpy()).all()


def test_validation_split_of_any_rest_trains(model_class, build_counts):
    model = fit(model_class, build_counts(51), validation_size=0.2, batch_size=10)  # 40 to train, 11 to validate
    assert np.isfinite(model.history["validation_loss"].to_numpy()).all()


def test_history_has_a_value_an_epoch_for_each_term_and_no_elbo(model_class, counts):
    model = fit(model_class, counts, max_epochs=3, validation_size=0.2)
    minibatch = next(iter(model._loader(model._training_cells(max_epochs=1))))
    terms = model.module.ssl_loss(minibatch)
    expected = {"train_loss", "validation_loss"} | {f"{t}_{split}" for t in terms for split in ("train", "validation")}
    assert expected <= set(model.history)
    assert {len(model.history[name]) for name in expected} == {3}
    assert not [name for name in model.history if "elbo" in name]


def test_without_validation_there_is_no_validation_loss(trained):
    assert not [name for name in trained.history if "validation" in name]


def test_early_stopping_follows_the_validation_loss(model_class, counts):
    hopeless = {"early_stopping_patience": 1, "early_stopping_min_delta": 1e9}
    model = fit(model_class, counts, max_epochs=20, early_stopping=True, **hopeless)
    assert 1 <= len(model.history["validation_loss"]) <= 3


def test_early_stopping_goes_on_while_the_validation_loss_falls(model_class, counts):
    model = fit(model_class, counts, max_epochs=6, early_stopping=True, early_stopping_patience=6)
    assert len(model.history["validation_loss"]) == 6


def test_second_training_moves_weights_in_train_mode(model_class, counts):
    model = fit(model_class, counts)
    before = copy.deepcopy(model.module.state_dict())
    modes = Modes(model.module)
    model.train(2, callbacks=[modes], **QUICK)
    trainable = {name for name, p in model.module.named_parameters() if p.requires_grad}
    after = model.module.state_dict()
    assert modes.training[""]
    assert all(not torch.equal(before[name], after[name]) for name in trainable)
    assert len(model.history["train_loss"]) == 4


def test_second_training_moves_batch_statistics(model_class, counts):
    model = fit(model_class, counts)
    norms = {n: m for n, m in model.module.named_modules() if isinstance(m, nn.BatchNorm1d) and m.weight.requires_grad}
    before = {name: norm.running_mean.clone() for name, norm in norms.items()}
    modes = Modes(model.module)
    model.train(2, callbacks=[modes], **QUICK)
    assert all(modes.training[name] for name in norms)
    assert not [name for name, norm in norms.items() if torch.equal(norm.running_mean, before[name])]


def test_frozen_parts_stay_in_eval_mode_and_unchanged(model_class, counts):
    model = fit(model_class, counts)
    frozen = {
        name: part
        for name, part in model.module.named_modules()
        if name and list(part.parameters()) and not any(p.requires_grad for p in part.parameters())
    }
    before = {name: copy.deepcopy(part.state_dict()) for name, part in frozen.items()}
    modes = Modes(model.module)
    model.train(2, callbacks=[modes], **QUICK)
    assert not [name for name in frozen if modes.training[name]]
    for name, part in frozen.items():
        for key, tensor in part.state_dict().items():
            assert torch.equal(tensor, before[name][key]), f"{name}.{key}"


def test_training_leaves_the_module_in_eval_mode(trained):
    assert not [name for name, part in trained.module.named_modules() if part.training]


def test_interrupted_training_leaves_a_usable_model(model_class, counts):
    model = build(model_class, counts)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        model.train(5, callbacks=[Interrupt(model.module)], **QUICK)
    assert signal.getsignal(signal.SIGINT) is handler
    assert model.is_trained_
    assert len(model.history["train_loss"]) >= 1
    assert not model.module.training
    assert np.isfinite(model.get_latent_representation()).all()
    model.train(1, **QUICK)


def test_error_in_training_restores_the_signal_handler_and_is_raised(model_class, counts):
    class Fail(Callback):
        def on_train_epoch_start(self, trainer, plan):
            raise RuntimeError("no luck")

    model = build(model_class, counts)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError, match="no luck"):
        model.train(2, callbacks=[Fail()], **QUICK)
    assert signal.getsignal(signal.SIGINT) is handler
    assert not model.is_trained_


def test_two_devices_are_refused(model_class, counts):
    with pytest.raises(ValueError, match="one device, found devices=2"):
        build(model_class, counts).train(1, devices=2, **QUICK)


def test_a_loss_that_is_no_number_stops_the_run(model_class, counts, monkeypatch):
    model = build(model_class, counts)
    monkeypatch.setattr(
        model.module, "ssl_loss", lambda cells: {"x": sum(p.sum() for p in model.module.parameters()) * torch.nan}
    )
    with pytest.raises(FloatingPointError, match="epoch 1; lower the learning rate"):
        model.train(3, **QUICK)


# saving and loading


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    trained.save(folder)
    return folder


def test_saved_folder_holds_no_pickle_and_no_data(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]
    text = (folder / "model.json").read_text()
    assert "gene_0" in text
    assert "cell_0" not in text


def test_loaded_model_embeds_the_same(model_class, folder, embedding, cells):
    model = model_class.load(folder, cells, accelerator="cpu")
    np.testing.assert_array_equal(model.get_latent_representation(), embedding)


def test_load_finds_the_class_itself(model_class, folder, embedding, cells):
    model = models.load(folder)
    assert type(model) is model_class
    np.testing.assert_array_equal(model.get_latent_representation(cells), embedding)


def test_loading_keeps_history_arguments_and_names(folder, trained):
    model = models.load(folder)
    assert model.var_names == trained.var_names
    assert set(model.history) == set(trained.history)
    for name, frame in trained.history.items():
        np.testing.assert_array_equal(model.history[name], frame)
    assert model.training.epochs(1000, 100) == trained.training.epochs(1000, 100)
    assert model.training.batch_size == trained.training.batch_size


def test_model_loaded_in_another_process_embeds_the_same(folder, embedding, cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    code = (
        "import sys, anndata, numpy; from sc_ssl import models; folder, cells, out = sys.argv[1:];"
        "numpy.save(out, models.load(folder).get_latent_representation(anndata.read_h5ad(cells)))"
    )
    paths = [folder, tmp_path / "cells.h5ad", tmp_path / "z.npy"]
    subprocess.run([sys.executable, "-c", code, *map(str, paths)], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "z.npy"), embedding, atol=1e-6)


def test_loading_never_unpickles(folder, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("unpickled")

    for owner, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(owner, name, refuse)
    assert models.load(folder).is_trained_


def test_loaded_model_trains_on(folder, cells):
    model = models.load(folder)
    with pytest.raises(ValueError, match="loaded without cells; pass adata"):
        model.train(1, **QUICK)
    model = type(model).load(folder, cells)
    model.train(1, **QUICK)
    assert len(model.history["train_loss"]) == 3


def test_save_refuses_a_folder_that_exists_and_overwrites_when_told(trained, folder):
    with pytest.raises(FileExistsError, match="exists already"):
        trained.save(folder)
    trained.save(folder, overwrite=True)
    assert models.load(folder).is_trained_


def test_constructor_arguments_are_plain_data(model_class, trained, embedding, cells):
    params = json.loads(json.dumps(trained.plain_init_params()))
    again = model_class(None, registry=trained.registry_, **params)
    again.module.load_state_dict(trained.module.state_dict())
    again.module.eval()
    again.is_trained_ = True
    np.testing.assert_array_equal(again.get_latent_representation(cells), embedding)


# other cells


def test_permuted_genes_give_the_same_embedding(trained, embedding, cells):
    order = np.random.default_rng(0).permutation(cells.n_vars)
    np.testing.assert_allclose(trained.get_latent_representation(cells[:, order].copy()), embedding, atol=1e-5)


def test_extra_genes_are_ignored(trained, embedding, cells):
    extra = cells[:, ::-1].copy()
    extra.var_names = [f"other_{i}" for i in range(extra.n_vars)]
    both = ad.concat([extra, cells], axis=1)
    np.testing.assert_allclose(trained.get_latent_representation(both), embedding, atol=1e-5)


def test_missing_genes_are_named_and_take_their_mean(trained, cells, warnings_logged):
    found = trained.get_latent_representation(cells[:, 10:].copy())
    assert np.isfinite(found).all()
    assert any("10 of the model's 96 genes are missing" in line and "gene_0" in line for line in warnings_logged())


def test_too_few_genes_are_refused_with_examples(trained, cells):
    with pytest.raises(ValueError, match=r"needs 50% of its 96 genes, found 40 .* 'gene_40', 'gene_41'"):
        trained.get_latent_representation(cells[:, :40].copy())


def test_load_query_leaves_source_and_cells_unchanged(model_class, trained, embedding, cells):
    query = cells[:50, ::-1].copy()
    before, weights = query.copy(), copy.deepcopy(trained.module.state_dict())
    model = model_class.load_query(trained, query)
    np.testing.assert_allclose(model.get_latent_representation(), embedding[:50], atol=1e-5)
    model.train(1, **QUICK)
    assert_unchanged(query, before)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in trained.module.state_dict().items())
    assert len(trained.history["train_loss"]) == 2


def test_load_query_from_a_folder(model_class, folder, embedding, cells):
    model = model_class.load_query(folder, cells[:50].copy())
    np.testing.assert_allclose(model.get_latent_representation(), embedding[:50], atol=1e-5)


def test_load_query_asks_for_enough_genes(model_class, trained, cells):
    with pytest.raises(ValueError, match="needs 90% of its 96 genes"):
        model_class.load_query(trained, cells[:, :80].copy(), min_coverage=0.9)


def test_batches_and_library_sizes_train(model_class, build_counts, warnings_logged):
    counts = build_counts(n_batches=2)
    counts.obs["library"] = np.asarray(counts.X.sum(axis=1)).ravel()
    model = fit(model_class, counts, setup={"batch_key": "donor", "size_factor_key": "library"})
    query = counts[:9].copy()
    query.obs["donor"] = "donor_new"
    assert np.isfinite(model.get_latent_representation(query)).all()
    assert any("1 batches are new" in line and "donor_new" in line for line in warnings_logged())


# what is refused


def duplicate_name(counts):
    counts.var_names = ["gene_1", *counts.var_names[1:]]


def put(value):
    def change(counts):
        counts.X[7, counts.X[7].indices[0]] = value

    return change


def take_logs(counts):
    counts.X = np.log1p(counts.X / 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (duplicate_name, r"unique, found 1 more than once, for example 'gene_1'; call adata.var_names_make_unique\(\)"),
        (put(np.nan), r"X must hold|finite"),
        (put(-1), "raw counts"),
        (put(np.inf), "finite"),
        (take_logs, "found log-normalised values .* put the raw counts in adata.layers.* input='log1p'"),
    ],
    ids=["duplicated names", "NaN", "negative", "infinite", "log1p"],
)
def test_unusable_data_are_refused_with_the_remedy(model_class, counts, change, message):
    change(counts)
    with pytest.raises(ValueError, match=message):
        model_class.setup_anndata(counts)


@pytest.mark.parametrize("name", ["layer", "batch_key"])
def test_unknown_keys_are_refused(model_class, counts, name):
    with pytest.raises(KeyError, match="nowhere"):
        model_class.setup_anndata(counts, **{name: "nowhere"})


# through tl.embed


def backed(counts, folder):
    counts.write_h5ad(folder / "cells.h5ad")
    return ad.read_h5ad(folder / "cells.h5ad", backed="r")


def with_x(convert):
    def change(counts, _):
        counts.X = convert(counts.X)
        return counts

    return change


def view(counts, _):
    twice = ad.concat([counts, counts], index_unique="-")
    twice = twice[: counts.n_obs]
    assert twice.is_view
    return twice


@pytest.fixture(scope="module")
def embed_small(model_class):
    small = SMALL.get(model_class.__name__, {})
    options = {key: value for key, value in QUICK.items() if key != "accelerator"}

    def run(adata):
        embed(adata, method_of(model_class), max_epochs=2, accelerator="cpu", train_kwargs=options, **small)
        return adata.obsm[f"X_{method_of(model_class)}"]

    return run


@pytest.fixture(scope="module")
def embedded(embed_small, cells):
    return embed_small(cells.copy())


@pytest.mark.parametrize(
    "change",
    [
        with_x(lambda x: x.toarray()),
        with_x(sparse.csc_matrix),
        with_x(sparse.csr_array),
        with_x(lambda x: x.astype(np.int64)),
        with_x(lambda x: x.astype(np.float64)),
        with_x(lambda x: x.toarray().astype(np.int32)),
        backed,
        view,
    ],
    ids=["dense", "csc", "csr_array", "int64", "float64", "dense int32", "backed", "view"],
)
def test_every_matrix_type_gives_the_same_embedding(embed_small, embedded, cells, tmp_path, change):
    changed = change(cells.copy(), tmp_path)
    if changed.is_view:
        with pytest.warns(UserWarning, match="[Vv]iew"):
            found = embed_small(changed)
    else:
        found = embed_small(changed)
    np.testing.assert_array_equal(found, embedded)
    if changed.isbacked:
        changed.file.close()


def test_no_reference_to_theprivate_cells_is_kept(embed_small, counts, monkeypatch):
    module = importlib.import_module("sc_ssl.tl.embed")
    references, make = [], module.private_cells

    def remember(*args, **kwargs):
        cells = make(*args, **kwargs)
        references.append(weakref.ref(cells))
        return cells

    monkeypatch.setattr(module, "private_cells", remember)
    embed_small(counts)
    gc.collect()
    assert [reference() for reference in references] == [None]
