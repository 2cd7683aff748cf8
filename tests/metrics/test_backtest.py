"""Forecasts from several origins."""

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import KFold, TimeSeriesSplit

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.metrics import backtest

X = pd.DataFrame({"time": np.arange(40.0)})
Y = 0.5 * X["time"] + np.random.default_rng(0).normal(size=40)
MODEL = NumPyroImpactRegressor(random_state=0)


@pytest.mark.parametrize(("window", "first"), [(None, [0, 0]), (20, [8, 14])])
def test_each_forecast_is_that_of_a_fit_on_the_rows_before(window, first):
    table = backtest(MODEL, X, Y, TimeSeriesSplit(2, test_size=6, max_train_size=window), coverage=0.8)
    assert table["row"].tolist() == list(range(28, 40))
    assert table["step"].tolist() == [1, 2, 3, 4, 5, 6] * 2
    for split, (start, origin) in enumerate(zip(first, (28, 34), strict=True)):
        model = NumPyroImpactRegressor(random_state=0).fit(X[start:origin], Y[start:origin])
        part, ahead = table[table["split"] == split], X[origin : origin + 6]
        np.testing.assert_array_equal(part[["mean", "std"]].T, model.predict(ahead, return_std=True))
        np.testing.assert_array_equal(part[["lower", "upper"]], model.predict_interval(ahead, 0.8))
        np.testing.assert_array_equal(part["y"], Y[origin : origin + 6])


def test_refusals():
    with pytest.raises(ValueError, match=r"one outcome for each row.*\(40, 2\)"):
        backtest(MODEL, X, np.column_stack([Y, Y]))
    with pytest.raises(ValueError, match="directly follow those of the fit, but split 0"):
        backtest(MODEL, X, Y, KFold(2))
    with pytest.raises(TypeError, match="NumPyroImpactRegressor"):
        backtest(NumPyroImpactClassifier(), X, Y)
