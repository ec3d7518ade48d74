"""Raw counts in ``layers["counts"]`` are found by every entry, whatever lies in ``X``."""

import numpy as np
import pandas as pd
import pytest
import torch
from small_models import SMALL, build, fit

from sc_ssl import models

#: what else models answer about new cells
ENTRIES = {
    "CellClassifier": ("predict",),
    "CellLM": (),
    "DrugResponse": ("get_prediction",),
    "MaskSC": ("get_attention", "get_expression_matrix"),
    "MaskedAutoencoder": ("get_reconstruction", "get_explained_variance"),
    "ModalityRegressor": ("get_prediction",),
    "ScDeepCluster": ("predict",),
    "ScziDesk": ("predict",),
}


def layered(cells, layer="counts"):
    """The same cells with their counts in a layer and log-values in ``X``."""
    found = cells.copy()
    found.layers[layer], found.X = found.X, found.X.log1p()
    return found


def constructed(model_class, adata):
    """With the targets that lie in ``obsm`` already."""
    torch.manual_seed(0)
    model_class.setup_anndata(adata)
    return model_class(adata, **SMALL.get(model_class.__name__, {}))


def assert_equal(found, expected):
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected)
    else:
        np.testing.assert_array_equal(found, expected)


def test_registered_cells(model_class, cells):
    found, expected = constructed(model_class, layered(cells)), constructed(model_class, cells.copy())
    assert (found.setup_arguments["layer"], expected.setup_arguments["layer"]) == ("counts", None)
    expected = expected.module.state_dict()
    for name, tensor in found.module.state_dict().items():
        assert not isinstance(tensor, torch.Tensor) or torch.equal(tensor, expected[name]), name


def test_new_cells(model_class, trained, folder, embedding, cells):
    query = layered(cells)
    assert_equal(trained.get_latent_representation(query), embedding)
    for model in (model_class.load(folder, query, accelerator="cpu"), model_class.load_query(trained, query)):
        assert_equal(model.get_latent_representation(), embedding)
    for entry in ENTRIES.get(model_class.__name__, ()):
        assert_equal(getattr(trained, entry)(query), getattr(trained, entry)(cells))


def test_of_a_classifier(pretrained, cells):
    torch.manual_seed(0)
    expected = models.CellClassifier.from_pretrained(pretrained, cells, labels_key="cell_type")
    torch.manual_seed(0)
    found = models.CellClassifier.from_pretrained(pretrained, layered(cells), labels_key="cell_type")
    assert_equal(found.get_latent_representation(), expected.get_latent_representation())
    expected.is_trained_ = True
    assert_equal(expected.predict(layered(cells), soft=True), expected.predict(cells, soft=True))
    with pytest.raises(KeyError, match="layer 'umis' is not in adata.layers"):
        models.CellClassifier.from_pretrained(pretrained, cells, labels_key="cell_type", layer="umis")


def test_a_registered_layer_comes_first_and_need_not_be_there(cells):
    own = layered(cells, "umis")
    own.layers["counts"] = own.layers["umis"] * 0
    model = fit(models.ContrastiveSC, own, setup={"layer": "umis"}, max_epochs=1)
    assert model.setup_arguments["layer"] == "umis"
    expected = model.get_latent_representation()
    for query in (own, layered(cells), cells):
        assert_equal(model.get_latent_representation(query), expected)
    query = cells.copy()
    query.X = query.X.log1p()
    with pytest.raises(ValueError, match=r"X must hold raw counts .* put the raw counts in adata.layers\['counts'\]"):
        model.get_latent_representation(query)


def test_log_values_are_read_from_x_beside_counts(cells):
    own = layered(cells)
    model = build(models.ContrastiveSC, own, input="log1p")
    assert model.setup_arguments["layer"] is None
    del own.layers["counts"]
    model.is_trained_ = True
    assert_equal(model.get_latent_representation(own), model.get_latent_representation())
