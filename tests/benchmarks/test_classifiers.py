"""The benchmarks' classifiers are those of ``tl.annotate``, on any space."""

import numpy as np
import pytest
from small_models import QUICK, build

from benchmarks.quality.classifiers import CLASSIFIERS, predict_proba
from sc_ssl import models, tl


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_probabilities_are_those_of_the_package(build_counts, name):
    reference, query = build_counts(90, seed=1, depth=6.0), build_counts(40, seed=2, depth=6.0)
    del query.obs["cell_type"]
    model = build(models.ContrastiveSC, reference.copy())
    model.train(1, **QUICK)
    annotated = tl.annotate(query, reference, "cell_type", method=name, model=model, copy=True)
    known_nd, query_nd = (tl.embed(adata, model, key_added="z", copy=True).obsm["z"] for adata in (reference, query))
    labels = reference.obs["cell_type"].astype(str).to_numpy()
    proba_nk, classes = predict_proba(name, known_nd, labels, query_nd, 0)
    assert classes == list(annotated.uns["cell_type"]["classes"])
    np.testing.assert_allclose(proba_nk, annotated.obsm["cell_type_proba"], atol=1e-5)


def test_a_type_with_one_cell_has_a_probability_by_the_svm():
    known_nd = np.random.default_rng(0).normal(size=(9, 2))
    proba_nk, classes = predict_proba("svm", known_nd, np.array(["a"] * 4 + ["b"] * 4 + ["rare"]), known_nd, 0)
    assert classes == ["a", "b", "rare"] and proba_nk.shape == (9, 3)
