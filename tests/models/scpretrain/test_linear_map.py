"""A linear encoder on sparse cells is the same as on dense minibatches."""

import numpy as np
import pytest
import torch
from small_models import QUICK

from sc_ssl.models import ScPretrain
from sc_ssl.models.scpretrain.module import is_linear


def build(adata, **options):
    torch.manual_seed(0)
    ScPretrain.setup_anndata(adata, batch_key="donor")
    model = ScPretrain(adata, n_latent=6, **options)
    model.train(2, **QUICK)
    return model


@pytest.mark.parametrize("scale", ["cp10k", "log1p"])
def test_equals_the_module_on_dense_minibatches(build_counts, scale):
    model = build(build_counts(n_batches=2), scale=scale)
    assert is_linear(model.module)
    query = build_counts(n_batches=2, seed=5)[:, 20:].copy()  # with genes that it lacks
    np.testing.assert_allclose(
        model.get_latent_representation(query), model._map_cells(model.module.embed, query, None), atol=1e-4
    )
    order = [7, 3, 3]
    np.testing.assert_array_equal(
        model.get_latent_representation(indices=order), model.get_latent_representation()[order]
    )
    assert model.get_latent_representation(indices=[]).shape == (0, 6)


def test_counts_are_not_changed(build_counts):
    adata = build_counts(n_batches=2)
    before = adata.X.copy()
    build(adata).get_latent_representation()
    assert (adata.X != before).nnz == 0


@pytest.mark.parametrize("options", [{"encoder": "mlp"}, {"scale": "zscore"}])
def test_other_encoders_are_not_linear(build_counts, options):
    assert not is_linear(build(build_counts(n_batches=2), **options).module)
