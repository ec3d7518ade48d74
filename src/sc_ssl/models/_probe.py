"""Logistic regression on embeddings, the head that a classifier starts from."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.linear_model import LogisticRegression

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator
    from torch import Tensor


def logistic_regression(**options: Any) -> LogisticRegression:
    """For standardised embeddings of few or many cells: an L2 penalty of strength 10."""
    return LogisticRegression(C=0.1, max_iter=2000, **options)


def fit_types(model: BaseEstimator, z_nd: np.ndarray, label_n: np.ndarray, **options: Any) -> BaseEstimator:
    """Fit a classifier of scikit-learn, which takes many types of few cells for a regression problem and warns."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%", UserWarning)
        return model.fit(z_nd, label_n, **options)


def linear_probe(z_nd: Tensor, label_n: np.ndarray, weight_k: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Weights (k, d) and intercepts (k,) of a logistic regression on standardised embeddings, cells weighed by class.

    A class without cells has no weights and the smallest intercept.
    """
    found = fit_types(logistic_regression(), z_nd.numpy(), label_n, sample_weight=weight_k.numpy()[label_n])
    coef_kd, intercept_k = found.coef_, found.intercept_
    if len(found.classes_) == 2:  # one column for the second class against the first
        coef_kd, intercept_k = (np.concatenate([-x / 2, x / 2]) for x in (coef_kd, intercept_k))
    weight_kd, bias_k = np.zeros((len(weight_k), z_nd.shape[1])), np.full(len(weight_k), intercept_k.min())
    weight_kd[found.classes_], bias_k[found.classes_] = coef_kd, intercept_k
    return weight_kd, bias_k
