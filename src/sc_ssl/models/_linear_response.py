"""Ridge regression of the responses on the genes, which errs where the network does not."""

import numpy as np
from sklearn.linear_model import Ridge, RidgeCV

#: more cells are thinned out: the time grows with their cube
MAX_CELLS = 2000
#: penalties that are tried, in units of the cells' mean squared length
PENALTIES = 10.0 ** np.arange(-1, 2.1, 0.5)


def ridge_regression(x_ng: np.ndarray, y_nm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (g, m) and intercepts (m,) for responses with NaN where they were not measured.

    One penalty for all drugs, by the error on cells left out one at a time, for which the mean stands where a response
    is missing (the more are, the larger the penalty); then each drug on the cells in which it was measured, at least
    two, else it has no weights.
    """
    x_ng, y_nm = x_ng.astype(np.float64), y_nm.astype(np.float64)
    measured_nm = np.isfinite(y_nm)
    scale = np.square(x_ng - x_ng.mean(axis=0)).sum(axis=1).mean()
    mean_m = np.where(measured_nm, y_nm, 0).sum(axis=0) / measured_nm.sum(axis=0).clip(min=1)
    filled_nm = np.where(measured_nm, y_nm, mean_m)
    penalty = RidgeCV(PENALTIES * max(scale, 1e-12)).fit(x_ng, filled_nm).alpha_
    weight_gm, bias_m = np.zeros((x_ng.shape[1], y_nm.shape[1])), np.zeros(y_nm.shape[1])
    patterns_np, pattern_m = np.unique(measured_nm, axis=1, return_inverse=True)
    for pattern, measured_n in enumerate(patterns_np.T):
        drugs = np.flatnonzero(pattern_m.ravel() == pattern)
        if measured_n.sum() < 2:
            continue
        fitted = Ridge(penalty).fit(x_ng[measured_n], y_nm[np.ix_(measured_n, drugs)])
        weight_gm[:, drugs], bias_m[drugs] = np.atleast_2d(fitted.coef_).T, fitted.intercept_
    return weight_gm, bias_m
