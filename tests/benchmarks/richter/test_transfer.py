from dataclasses import replace

import numpy as np
import pytest

from benchmarks.quality.richter import transfer
from benchmarks.quality.scpretrain import studies
from sc_ssl.models import CellClassifier, MaskedAutoencoder


@pytest.fixture
def sets(build_counts, monkeypatch):
    data = {name: build_counts(130, seed=seed, depth=6.0) for seed, name in enumerate(("a", "b", "c"))}
    for adata in data.values():
        adata.var_names = [f"GENE{i}" for i in range(96)]
    data["few genes"] = data["b"][:, :50].copy()
    monkeypatch.setattr(transfer, "load", data.__getitem__)
    monkeypatch.setattr(transfer, "load_all", data.__getitem__)
    monkeypatch.setattr(transfer, "MIN_GENES", 60)
    monkeypatch.setattr(studies, "DATASETS", ("a", "b", "few genes"))
    monkeypatch.setattr(studies, "UNLABELLED", ("c",))
    for model_class, n_epochs in ((MaskedAutoencoder, 10), (CellClassifier, 30)):
        quick = replace(model_class.training, max_epochs=n_epochs, min_steps=n_epochs)
        monkeypatch.setattr(model_class, "training", quick)
    return data


def test_pretraining_takes_other_studies_with_enough_genes_and_without_relatives(sets, monkeypatch):
    assert set(transfer.study("a", 0).joined.obs["dataset"]) == {"target", "b", "c"}
    monkeypatch.setattr(studies, "RELATED", {"a": ("c",)})
    assert set(transfer.study("a", 0).joined.obs["dataset"]) == {"target", "b"}


def test_encoders_differ_by_what_they_saw_and_start_alike(sets):
    study = transfer.study("a", 0)
    seen = []
    for name in ("others", "target", "all"):
        model = study.encoder(name, 0)
        seen.append(model.get_latent_representation().shape[0])
        assert study.encoder(name, 0) is model
    assert seen == [260, 130, 390]
    statistics = [study.encoder(name, 0).module.normalize.mean_bg.numpy() for name in ("none", "others", "all")]
    np.testing.assert_array_equal(*statistics[:2])
    np.testing.assert_array_equal(*statistics[1:])
    weights = {name: study.encoder(name, 0).module.encoder[0].weight.detach().numpy() for name in ("none", "others")}
    assert not np.array_equal(weights["none"], weights["others"])


@pytest.mark.parametrize(
    "row", ["from scratch", "other studies", "own cells and other studies", "own cells, logistic", "pca, logistic"]
)
def test_rows_name_the_other_cells(sets, row):
    scores = transfer.benchmark().rows[row](transfer.study("a", 0), 0)
    assert list(scores) == [f"macro_f1 with {n} labels" for n in (20, 50, 100)]
    assert scores["macro_f1 with 100 labels"] > 0.75


def test_small_types_and_labelled_cells_do_not_count():
    labels = np.array(["a"] * 30 + ["b"] * 20 + ["rare"] * 9)
    wrong_where_it_does_not_count = np.where(np.arange(59) < 10, "b", np.where(labels == "rare", "a", labels))
    assert transfer.supported_f1(labels, labels, np.arange(10)) == 1
    found = transfer.supported_f1(labels, wrong_where_it_does_not_count, np.arange(10))
    # of the 20 other cells of type a all are found, among 9 false ones
    assert found == pytest.approx((2 * 20 / (20 + 29) + 1) / 2)
