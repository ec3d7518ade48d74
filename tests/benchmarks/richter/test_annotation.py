from dataclasses import replace

import numpy as np
import pytest

from benchmarks.quality.cells import split, types
from benchmarks.quality.richter import annotation
from sc_ssl import models


@pytest.fixture
def study(build_counts, monkeypatch):
    for name in ("MaskedAutoencoder", "BYOL"):
        model_class = getattr(models, name)
        monkeypatch.setattr(model_class, "training", replace(model_class.training, max_epochs=8, min_steps=8))
    return annotation.Study(*split(build_counts(150, depth=6.0), 0))


@pytest.mark.parametrize(
    "row", ["supervised", "mae, fine-tuned", "mae, neighbours", "byol, neighbours", "pca, logistic", "hvg, logistic"]
)
def test_rows_name_types_of_cells_that_they_have_not_seen(study, row):
    scores = annotation.ROWS[row](study, 0)
    assert scores["macro_f1"] > 0.8 and scores["micro_f1"] > 0.8


def test_f1_is_of_the_test_cells(study):
    right = types(study.test)
    assert study.score(right) == {"macro_f1": 1, "micro_f1": 1}
    one_wrong = np.where(np.arange(len(right)) == 0, "type_1" if right[0] != "type_1" else "type_0", right)
    assert study.score(one_wrong)["micro_f1"] == pytest.approx(1 - 1 / len(right))


def test_an_encoder_is_trained_once_on_the_training_cells_alone(study):
    model = study.encoder("mae", 0)
    assert study.encoder("mae", 0) is model
    assert model.get_latent_representation().shape[0] == study.train.n_obs
    untrained = study.encoder("mae", 0, trained=False)
    weights = (m.module.encoder[0].weight.detach().numpy() for m in (model, untrained))
    assert not np.array_equal(*weights)


def test_a_row_gives_the_same_for_a_seed_and_leaves_the_cells(study):
    before = list(study.train.obs), list(study.train.obsm)
    first, again = (annotation.ROWS["mae, neighbours"](annotation.Study(study.train, study.test), 3) for _ in range(2))
    assert first == again
    assert (list(study.train.obs), list(study.train.obsm)) == before
