"""Models that benchmarks build are those of ``tl.embed``."""

import gc
import weakref

import numpy as np
import pytest

from benchmarks.quality import embeddings
from sc_ssl import models, tl


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(models.ContrastiveSC, "training", models.TrainingDefaults(2, 40))
    monkeypatch.setattr(embeddings, "QUIET", {"enable_progress_bar": False, "accelerator": "cpu"})


def test_a_trained_model_embeds_as_the_package_does(build_counts, quick):
    adata = build_counts(90)
    model = embeddings.model_of("contrastive_sc", adata, 3)
    expected = tl.embed(adata, "contrastive_sc", random_state=3, accelerator="cpu", copy=True).obsm["X_contrastive_sc"]
    np.testing.assert_allclose(model.get_latent_representation(), expected, atol=1e-5)


def test_an_untrained_model_starts_from_the_same_weights(build_counts, quick):
    adata = build_counts(90)
    first, again = (embeddings.untrained("contrastive_sc")(adata, 3) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, embeddings.model_of("contrastive_sc", adata, 3).get_latent_representation())


def test_nothing_keeps_the_cells_of_a_model_that_is_gone(build_counts):
    with embeddings.built("contrastive_sc", build_counts(60), 0) as model:
        cells = weakref.ref(model.adata)
    del model
    gc.collect()
    assert cells() is None
