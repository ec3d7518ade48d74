"""What every embedding model promises of its embedding and its loss; a new class in ``METHODS`` is tested without a word."""

import copy
import gc
import weakref

import anndata as ad
import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from small_models import QUICK, SMALL, TARGETS, assert_unchanged, build, fit, method_of, minibatches

from sc_ssl.tl import embed

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


# the loss


def test_every_trainable_parameter_gets_a_gradient(trained):
    module = copy.deepcopy(trained.module).train()
    module.zero_grad()
    sum(sum(module.loss_terms(minibatch).values()) for minibatch in minibatches(trained)).backward()
    without = [
        name for name, p in module.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())
    ]
    frozen = [name for name, p in module.named_parameters() if not p.requires_grad and p.grad is not None]
    assert not without
    assert not frozen


def test_loss_terms_are_finite_scalars(trained):
    minibatch = next(minibatches(trained))
    for term in trained.module.loss_terms(minibatch).values():
        assert term.shape == ()
        assert torch.isfinite(term)


def test_loss_falls_on_structured_data(well_trained):
    loss = well_trained.history["train_loss"]["train_loss"]
    assert loss[-3:].mean() < loss[:3].mean()


def test_embedding_tells_the_types_apart(well_trained, cells):
    z = well_trained.get_latent_representation()
    assert (z.std(axis=0) > 1e-3).any()
    accuracy = cross_val_score(KNeighborsClassifier(5), z, cells.obs["cell_type"], cv=4).mean()
    assert accuracy > 0.7  # chance is a third


# randomness


def test_same_seed_is_bit_identical(model_class, trained, embedding, cells):
    np.testing.assert_array_equal(fit(model_class, cells.copy()).get_latent_representation(), embedding)


def test_another_seed_differs(model_class, embedding, cells):
    other = fit(model_class, cells.copy(), seed=1).get_latent_representation()
    assert not np.allclose(other, embedding)


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
    if model_class.__name__ in TARGETS:
        pytest.skip("it predicts, and is no method of tl.embed")
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
        with_x(lambda x: x.toarray().astype(np.int32)),
        with_x(lambda x: sparse.csc_matrix(x, dtype=np.float64)),
        with_x(lambda x: sparse.csr_array(x, dtype=np.int64)),
        backed,
        view,
    ],
    ids=["dense int32", "csc float64", "csr_array int64", "backed", "view"],
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


def test_no_reference_to_cells_of_its_own_is_kept(embed_small, counts, monkeypatch):
    made, init = [], ad.AnnData.__init__

    def remember(adata, *args, **kwargs):
        made.append(weakref.ref(adata))
        init(adata, *args, **kwargs)

    monkeypatch.setattr(ad.AnnData, "__init__", remember)
    embed_small(counts)
    gc.collect()
    assert made
    assert not [reference for reference in made if reference() is not None]


def test_an_embedding_is_written_to_disk_too(trained, embedding, tmp_path):
    found = trained.get_latent_representation(out=tmp_path / "z.zarr")
    np.testing.assert_array_equal(found[:], embedding)
    given = np.empty_like(embedding)
    assert trained.get_latent_representation(out=given) is given
    np.testing.assert_array_equal(given, embedding)
    with pytest.raises(FileExistsError, match=r"z.zarr' exists already"):
        trained.get_latent_representation(out=tmp_path / "z.zarr")
