"""A trained model of each class that can be built from cells, for what every model promises."""

import pytest
from small_models import TARGETS, add_targets, fit

from sc_ssl import models
from sc_ssl.models import METHODS


@pytest.fixture(scope="module", params=[*(c.__name__ for c in METHODS.values()), *TARGETS])
def model_class(request):
    return getattr(models, request.param)


@pytest.fixture(scope="module")
def cells(build_counts):
    """The cells that the shared model is trained on; not to be changed."""
    cells = build_counts()
    add_targets(cells)
    return cells


@pytest.fixture(scope="module")
def trained(model_class, cells):
    """A model after two epochs; not to be changed."""
    return fit(model_class, cells.copy())


@pytest.fixture(scope="module")
def well_trained(model_class, cells):
    """A model after thirty epochs; not to be changed."""
    return fit(model_class, cells.copy(), max_epochs=30)


@pytest.fixture(scope="module")
def embedding(trained):
    return trained.get_latent_representation()


@pytest.fixture(scope="module")
def pretrained(cells):
    """An encoder for classifiers; not to be changed."""
    return fit(models.ScPretrain, cells.copy(), max_epochs=15)


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    """``trained``, saved."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    trained.save(folder)
    return folder
