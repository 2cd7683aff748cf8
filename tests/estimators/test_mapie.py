"""Estimators inside the conformal regressors of MAPIE."""

import numpy as np
import pytest
import zoo

from skaimz import NumPyroImpactRegressor

regression = pytest.importorskip("mapie.regression")


def test_intervals_of_a_wrong_model_are_widened_to_their_coverage():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 2))
    y = X @ [1.0, -0.5] + rng.normal(scale=2.0, size=600)
    draws = {"coef": rng.normal([1.0, -0.5], 0.05, size=(100, 2))}
    # The kernel says that the noise has a standard deviation of 0.5.
    model = NumPyroImpactRegressor(zoo.conjugate, posterior=draws, random_state=0).fit(X[:10], y[:10])
    conformal = regression.SplitConformalRegressor(model, confidence_level=0.9, prefit=True)
    _, intervals = conformal.conformalize(X[:300], y[:300]).predict_interval(X[300:])
    lower, upper = intervals[:, :, 0].T
    assert abs(np.mean((lower <= y[300:]) & (y[300:] <= upper)) - 0.9) < 0.06
    own = model.predict_interval(X[300:])
    assert np.mean((own[:, 0] <= y[300:]) & (y[300:] <= own[:, 1])) < 0.5
