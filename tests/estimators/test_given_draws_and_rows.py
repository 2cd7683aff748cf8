"""Draws that are given, with missing outcomes and with rows in another order; levels that follow in fractions."""

import warnings

import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
import series

from skaimz import NumPyroImpactRegressor
from skaimz.exceptions import RowsOfFitWarning

RNG = np.random.default_rng(0)
N = 12
X = np.arange(float(N))[:, None]
LEVEL = np.cumsum(RNG.normal(size=N)) + 5.0
MISSING = np.where(np.arange(N) == 3, np.nan, LEVEL + 0.1)


def line(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * X[:, 0], 0.1), obs=y)


def fitted(kernel, draws, y, rule="error"):
    return NumPyroImpactRegressor(kernel, posterior=draws, missing_outcomes=rule, random_state=0).fit(X, y)


@pytest.mark.parametrize("rule", ["ignore", "impute"])
@pytest.mark.parametrize(
    ("kernel", "draws", "reason"),
    [
        (series.autoregression, {"coef": np.full((3, 2), 0.5), "scale": np.ones(3)}, "depends on other outcomes"),
        (series.gaussian_process, {"scale": np.ones(3)}, "share one density"),
    ],
)
def test_outcomes_that_others_depend_on_may_not_be_missing(kernel, draws, reason, rule):
    with pytest.raises(ValueError, match=f"Missing outcomes cannot be left out, because .*{reason}"):
        fitted(kernel, draws, MISSING, rule)


@pytest.mark.parametrize("rule", ["ignore", "impute"])
def test_outcomes_of_independent_rows_may_be_missing(rule):
    model = fitted(line, {"slope": np.array([1.0, 3.0])}, MISSING, rule)
    np.testing.assert_allclose(model.predict(X), 2.0 * X[:, 0], rtol=1e-6)


def test_a_walk_goes_on_beside_missing_outcomes():
    draws = {"level": np.tile(LEVEL, (4000, 1)), "scale": np.full(4000, 0.5)}
    model = fitted(series.walk, draws, MISSING, "ignore")
    mean, std = model.predict(X[:3] + N, return_std=True)
    np.testing.assert_allclose(mean, LEVEL[-1], atol=4 * np.sqrt(0.75 / 4000))
    np.testing.assert_allclose(std, np.sqrt(0.25 * np.arange(1, 4) + 0.09), rtol=0.05)


def test_rows_of_the_fit_in_another_order_are_told():
    model = fitted(series.walk, {"level": np.tile(LEVEL, (3, 1)), "scale": np.ones(3)}, LEVEL)
    with pytest.warns(RowsOfFitWarning, match="rows of the fit in another order"):
        shuffled = model.predict(X[::-1], in_sample=True)
    np.testing.assert_allclose(shuffled, LEVEL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # The rows of the fit, and what they would be with another X.
        np.testing.assert_allclose(model.predict(X, in_sample=True), LEVEL)
        np.testing.assert_allclose(model.predict(X[::-1] + 1.0, in_sample=True), LEVEL)
    again = NumPyroImpactRegressor.from_datatree(series.walk, model.to_datatree())
    with pytest.warns(RowsOfFitWarning, match="rows of the fit in another order"):
        again.predict(X[::-1], in_sample=True)


def test_equal_rows_may_be_exchanged():
    """With rows that are there twice, another order may be another value: of a treatment, the opposite one."""
    treated = (np.arange(N) % 2.0)[:, None]
    model = NumPyroImpactRegressor(
        series.walk, posterior={"level": np.tile(LEVEL, (3, 1)), "scale": np.ones(3)}, random_state=0
    ).fit(treated, LEVEL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(model.predict(1.0 - treated, in_sample=True), LEVEL)


STATES = np.cumsum(RNG.normal(scale=0.5, size=(2, 8)), axis=1)
SHOPS = pd.DataFrame({"x": 0.0, "month": np.tile(np.arange(8), 2), "shop": np.repeat(["n", "s"], 8)})
DRAWS = {"scale": np.full(3000, 0.5), "level": np.tile(STATES, (3000, 1, 1))}


def panel(labels):
    columns = {"time": {"columns": "month", "unknown": "next"}, "shop": "shop"}
    table = SHOPS.assign(month=np.asarray(labels)[SHOPS["month"]])
    model = NumPyroImpactRegressor(series.panel, column_args=columns, posterior=DRAWS, random_state=0)
    return model.fit(table, np.zeros(16))


def at(*labels):
    return pd.DataFrame({"x": 0.0, "month": list(labels), "shop": "s"})


@pytest.mark.parametrize("labels", [np.arange(8) * 0.1, np.array([float(f"0.{i}") for i in range(8)])])
def test_fractions_follow_in_their_steps(labels):
    model = panel(labels)
    # 0.3 and 0.8 as they are written, and as they are computed; three steps after the last and a known one.
    mean, std = model.predict(at(0.8, 8 * 0.1, 1.0, 0.3, 3 * 0.1), return_std=True)
    np.testing.assert_allclose(mean[3:], STATES[1, 3], rtol=1e-6)
    assert mean[0] == mean[1]
    np.testing.assert_allclose(mean[:3], STATES[1, -1], atol=4 * np.sqrt(0.75 / 3000))
    np.testing.assert_allclose(std, np.sqrt(np.array([0.25, 0.25, 0.75, 0.0, 0.0]) + 0.09), rtol=0.05)
    with pytest.raises(ValueError, match=r"\[0.85\], which are no regular steps"):
        model.predict(at(0.85))


def test_dates_that_are_text_are_refused():
    model = panel([f"2020-01-0{day}" for day in range(1, 9)])
    np.testing.assert_allclose(model.predict(at("2020-01-08")), STATES[1, -1], rtol=1e-6)
    with pytest.raises(ValueError, match=r"'time' must hold numbers or times.*`pandas.to_datetime`"):
        model.predict(at("2020-01-09"))
