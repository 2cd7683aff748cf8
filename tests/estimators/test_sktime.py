"""Estimators as forecasters of sktime, by its own tests, and against the estimator's own forecasts."""

import warnings

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest

from skaimz import NumPyroImpactRegressor

checks = pytest.importorskip("sktime.utils.estimator_checks")
pytest.importorskip("skpro")

from skaimz.sktime import SktimeForecaster  # noqa: E402

pytestmark = [
    pytest.mark.usefixtures("quick_compilation"),
    # sktime's own, about a default of its next version.
    pytest.mark.filterwarnings("ignore:The default of config ``remember_data``:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The kernel runs"),
    pytest.mark.filterwarnings("ignore::skaimz.exceptions.PosteriorWarning"),
]

MONTHS = pd.period_range("2020-01", periods=20, freq="M")
SALES = pd.Series(np.random.default_rng(0).normal(size=20), MONTHS, name="sales")
EFFECTS = np.random.default_rng(1).normal([1.0, 2.0], 0.1, size=(30, 2))


def walk(X, y=None):
    """A random walk, which a forecast goes on with."""
    with numpyro.plate("steps", X.shape[0]):
        move = numpyro.sample("move", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(jnp.cumsum(move), 0.5), obs=y)


def trend(X, y=None):
    """An effect of each step, and one of a column."""
    effect = numpyro.sample("effect", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ effect, 0.5), obs=y)


@pytest.fixture(scope="module")
def walking():
    moves = np.random.default_rng(2).normal(size=(2000, 20))
    return SktimeForecaster(NumPyroImpactRegressor(walk, posterior={"move": moves}, random_state=0)).fit(SALES), moves


@pytest.mark.slow
def test_its_own_tests_pass():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas and sktime announce changes to each other
        results = checks.check_estimator(SktimeForecaster(NumPyroImpactRegressor(random_state=0)), verbose=False)
    assert len(results) > 300
    assert {name: result for name, result in results.items() if result != "PASSED"} == {}


def test_forecasts_go_on_from_the_fit(walking):
    model, moves = walking
    last = moves.sum(axis=1)
    horizon = [2, 7]
    variance = model.predict_var(fh=horizon)
    assert variance.index.equals(pd.PeriodIndex(["2021-10", "2022-03"], freq="M"))
    # The steps ahead are drawn, one path for each posterior draw, so their variance is known up to that.
    assert variance["sales"].iloc[0] < variance["sales"].iloc[1]
    np.testing.assert_allclose(variance["sales"], last.var() + np.array(horizon) + 0.25, rtol=0.15)
    # A step does not depend on whether those before it are asked for.
    every = model.predict_interval(fh=range(1, 8), coverage=0.5)
    some = model.predict_interval(fh=horizon, coverage=0.5)
    np.testing.assert_allclose(some, every.iloc[[1, 6]], rtol=1e-5)
    np.testing.assert_allclose(model.predict(fh=horizon), model.predict(fh=range(1, 8)).iloc[[1, 6]], rtol=1e-5)


def test_steps_and_exogenous_columns():
    longer = pd.period_range("2020-01", periods=24, freq="M")
    weather = pd.DataFrame({0: np.random.default_rng(3).normal(size=24)}, longer)
    estimator = NumPyroImpactRegressor(trend, posterior={"effect": EFFECTS}, random_state=0)
    model = SktimeForecaster(estimator).fit(SALES, X=weather[:20])
    rows = np.column_stack([np.arange(20, 24), weather[0][20:]])
    np.testing.assert_allclose(model.predict(fh=range(1, 5), X=weather[20:]), rows @ EFFECTS.mean(axis=0), rtol=1e-6)
    distribution = model.predict_proba(fh=[4], X=weather[20:])
    np.testing.assert_allclose(distribution.var(), (rows[3] @ EFFECTS.T).var() + 0.25, rtol=1e-6)
    # Steps are counted from the end of the fit, also when newer data have moved the cutoff.
    model.update(pd.Series([0.0], MONTHS[-1:] + 1, name="sales"), X=weather[20:21], update_params=False)
    np.testing.assert_allclose(model.predict(fh=[2], X=weather[20:]), rows[2:3] @ EFFECTS.mean(axis=0), rtol=1e-6)
    with pytest.raises(ValueError, match="X must have a row for each step up to the last one of `fh`, and lacks"):
        model.predict(fh=[2], X=weather[22:])
