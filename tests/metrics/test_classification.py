"""Scores of predicted probabilities, against their definitions."""

import numpy as np
import pandas as pd
import pytest

from sc_ssl.metrics import classification

CLASSES = ["B", "NK", "T"]


def one_hot(names, classes=CLASSES, confidence=1.0):
    hot = np.array([[name == c for c in classes] for name in names], dtype=float)
    return confidence * hot + (1 - confidence) / len(classes)


def test_perfect_prediction():
    y = ["B", "T", "NK", "T"]
    score = classification(y, one_hot(y), CLASSES, min_support=2)
    for name in ("accuracy", "kappa", "macro_f1", "macro_f1_supported", "auroc", "auprc", "rand", "adjusted_rand"):
        assert score[name] == pytest.approx(1), name
    assert score["calibration_error"] == pytest.approx(0)
    assert score["n_classes"] == 3


def test_kappa_is_agreement_beyond_the_margins():
    y, p = np.array(["B"] * 6 + ["T"] * 4), np.array(["B"] * 5 + ["T"] * 3 + ["B"] * 2)
    score = classification(y, one_hot(p), CLASSES)
    observed = np.mean(y == p)
    chance = sum(np.mean(y == c) * np.mean(p == c) for c in CLASSES)
    assert score["kappa"] == pytest.approx((observed - chance) / (1 - chance))
    assert score["accuracy"] == pytest.approx(observed)


def test_areas_are_those_of_probabilities_and_of_average_precision():
    rng = np.random.default_rng(0)
    y = rng.permutation(["B"] * 20 + ["T"] * 80)
    proba = rng.dirichlet([1, 1], size=100)
    score = classification(y, proba, ["B", "T"])
    precision = []
    roc = []
    for k, name in enumerate(["B", "T"]):
        is_k = (y == name)[np.argsort(-proba[:, k])]
        precision.append(np.mean(np.cumsum(is_k)[is_k] / (np.flatnonzero(is_k) + 1)))
        p, q = proba[y == name, k], proba[y != name, k]
        roc.append(np.mean(p[:, None] > q[None, :]))
    assert score["auprc"] == pytest.approx(np.mean(precision))
    assert score["auroc"] == pytest.approx(np.mean(roc))


def test_a_class_without_cells_is_left_out_of_the_means():
    y = ["B", "B", "T", "T"]
    with_nk = classification(y, one_hot(y, CLASSES, 0.7), CLASSES)
    assert with_nk["n_classes"] == 2
    assert with_nk["auroc"] == 1
    assert with_nk["macro_f1"] == 1


def test_a_type_that_no_class_names_counts_as_wrong():
    score = classification(["B", "mast"], one_hot(["B", "B"]), CLASSES)
    assert score["accuracy"] == 0.5
    assert score["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)


def test_rare_types_are_left_out_of_the_supported_mean():
    y = ["B"] * 10 + ["T"]
    score = classification(y, one_hot(["B"] * 11), CLASSES, min_support=10)
    f1_b = 2 * 10 / (2 * 10 + 1)
    assert score["macro_f1_supported"] == pytest.approx(f1_b)
    assert score["macro_f1"] == pytest.approx(f1_b / 2)


def test_rand_and_adjusted_rand_differ_at_chance():
    rng = np.random.default_rng(0)
    y, p = rng.choice(CLASSES, 300), rng.choice(CLASSES, 300)
    score = classification(y, one_hot(p), CLASSES)
    same = [(a == b) == (c == d) for a, c in zip(y, p, strict=True) for b, d in zip(y, p, strict=True)]
    assert score["rand"] == pytest.approx((np.sum(same) - 300) / (300 * 299))
    assert abs(score["adjusted_rand"]) < 0.02


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    y = ["B"] * 6 + ["T"] * 4
    score = classification(y, np.tile([0.9, 0, 0.1], (10, 1)), CLASSES)
    assert score["calibration_error"] == pytest.approx(0.9 - 0.6)


def test_types_may_be_numbers():
    score = classification(np.array([1, 2, 2]), pd.DataFrame({1: [0.9, 0.2, 0.6], 2: [0.1, 0.8, 0.4]}), [1, 2])
    assert score["accuracy"] == pytest.approx(2 / 3)
    with_missing_once = classification([1.0, 2.0, 2.0], np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), ["1", "2"])
    assert with_missing_once["accuracy"] == pytest.approx(2 / 3)


def test_one_type_alone_has_no_areas():
    score = classification(["B", "B"], one_hot(["B", "B"]), CLASSES)
    assert score["n_classes"] == 0
    assert np.isnan(score[["auroc", "auprc", "kappa"]]).all()


@pytest.mark.parametrize(
    ("y", "proba", "classes", "message"),
    [
        (["B"], np.ones((2, 1)), ["B"], r"shape .* \(1, 1\).* has \(2, 1\)"),
        ([], np.ones((0, 1)), ["B"], "at least one cell"),
        (["B"], [[0.5, 0.5]], ["B", "B"], "'B' is there more than once"),
        ([None, "B"], [[1.0], [1.0]], ["B"], "1 are missing"),
        (["B"], [[0.4, 0.4]], ["B", "T"], "row 0"),
        (["B", "B"], [[0.5, 0.5], [np.nan, 1]], ["B", "T"], "row 1"),
        (["B"], pd.DataFrame({"T": [0.2], "B": [0.8]}), ["B", "T"], "classes in their order, B, T, but are T, B"),
    ],
)
def test_what_cannot_be_scored_is_refused(y, proba, classes, message):
    with pytest.raises(ValueError, match=message):
        classification(y, proba, classes)


HIERARCHY = {"CD4": "T", "CD8": "T", "T": "lymphocyte", "B": "lymphocyte"}


def test_a_descendant_counts_and_a_broader_type_does_not():
    classes = ["B", "CD4", "T", "lymphocyte"]
    true, named = ["T", "lymphocyte", "CD4", "T"], ["CD4", "CD4", "T", "B"]
    proba = np.array([[name == k for k in classes] for name in named], dtype=float)
    assert classification(true, proba, classes)["accuracy"] == 0
    found = classification(true, proba, classes, hierarchy=HIERARCHY)
    assert found["accuracy"] == 0.5  # the first two
    # T: one right, one missed, one false; lymphocyte: right; CD4: missed
    assert found["macro_f1"] == pytest.approx((0.5 + 1 + 0) / 3)


def test_a_hierarchy_that_does_not_concern_the_types_changes_nothing():
    rng = np.random.default_rng(0)
    proba, true = rng.dirichlet(np.ones(3), 50), rng.choice(list("abc"), 50)
    pd.testing.assert_series_equal(
        classification(true, proba, list("abc")), classification(true, proba, list("abc"), hierarchy=HIERARCHY)
    )


def test_a_circle_is_no_hierarchy():
    with pytest.raises(ValueError, match="'a' is above itself|'b' is above itself"):
        classification(["a", "b"], np.eye(2), ["a", "b"], hierarchy={"a": "b", "b": "a"})
