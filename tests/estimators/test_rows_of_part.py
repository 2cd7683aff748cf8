"""Latent sites with another number of entries than rows, which still follows from it: steps between rows, weeks."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from skaimz import NumPyroImpactRegressor
from skaimz.exceptions import RowsOfFitWarning

DAYS = np.arange(6.0)[:, None]
WALK = np.array([10.0, 20.0, 30.0, 40.0, 50.0])
N_DRAWS = 4000


def walk(X, y=None):
    steps = numpyro.sample("walk", dist.GaussianRandomWalk(scale=1.0, num_steps=X.shape[0] - 1))
    numpyro.sample("y", dist.Normal(jnp.concatenate([jnp.zeros(1), steps]), 1.0), obs=y)


def increments(X, y=None):
    with numpyro.plate("between", X.shape[0] - 1):
        steps = numpyro.sample("steps", dist.Normal(0.0, 1.0))
    level = jnp.concatenate([jnp.zeros(1), jnp.cumsum(steps)])
    numpyro.sample("y", dist.Normal(level, 1.0), obs=y)


def weeks(X, y=None):
    n_rows = X.shape[0]
    with numpyro.plate("weeks", (n_rows + 1) // 2):
        week = numpyro.sample("week", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", n_rows):
        numpyro.sample("y", dist.Normal(week[jnp.arange(n_rows) // 2], 0.5), obs=y)


def with_draws(kernel, n_rows=6, **values):
    draws = {name: np.tile(value, (N_DRAWS, 1)) for name, value in values.items()}
    return NumPyroImpactRegressor(kernel, posterior=draws, random_state=0).fit(DAYS[:n_rows], np.zeros(n_rows))


MODELS = {"walk": (walk, WALK), "steps": (increments, np.full(5, 10.0))}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    kernel, values = MODELS[request.param]
    return with_draws(kernel, **{request.param: values})


def test_rows_of_the_fit(model):
    np.testing.assert_allclose(model.predict(DAYS, in_sample=True), [0.0, *WALK], rtol=1e-6)
    with pytest.raises(ValueError, match=r"draws for the 6 rows of the fit, but X has 4 rows"):
        model.predict(DAYS[:4], in_sample=True)


@pytest.mark.parametrize("n_new", [1, 4, 6])
def test_new_rows_go_on_from_the_last(model, n_new):
    new = np.arange(6.0, 6.0 + n_new)[:, None]
    drawn = model.sample_posterior_predictive(new, in_sample=False)["predictions"]["y"].to_numpy()[0]
    sd = np.sqrt(1.0 + np.arange(1, n_new + 1))
    np.testing.assert_allclose(drawn.mean(0), 50.0, atol=4 * sd[-1] / np.sqrt(N_DRAWS))
    np.testing.assert_allclose(drawn.std(0), sd, rtol=0.05)


def test_the_rows_of_the_fit_are_not_taken_for_themselves_in_silence(model):
    with pytest.warns(RowsOfFitWarning, match="in_sample=True"):
        np.testing.assert_allclose(model.predict(DAYS), 50.0, atol=0.2)


def test_an_incomplete_week_goes_on():
    model = with_draws(weeks, 5, week=[1.0, 2.0, 3.0])
    np.testing.assert_allclose(model.predict(DAYS[:5], in_sample=True), [1.0, 1.0, 2.0, 2.0, 3.0], rtol=1e-6)
    drawn = model.sample_posterior_predictive(np.zeros((3, 1)), in_sample=False)["predictions"]["y"].to_numpy()[0]
    np.testing.assert_allclose(drawn.mean(0), [3.0, 0.0, 0.0], atol=0.08)
    np.testing.assert_allclose(drawn.std(0), [0.5, np.sqrt(1.25), np.sqrt(1.25)], rtol=0.05)
    assert np.corrcoef(drawn[:, 1], drawn[:, 2])[0, 1] == pytest.approx(1.0 / 1.25, abs=0.03)


def test_a_fit():
    y = np.array([0.0, 0.4, 1.1, 0.9, 2.0, 2.2])
    model = NumPyroImpactRegressor(walk, random_state=0).fit(DAYS, y)
    # The walk and the outcomes are jointly normal.
    covariance = np.minimum.outer(np.arange(6.0), np.arange(6.0))
    expected = covariance @ np.linalg.solve(covariance + np.eye(6), y)
    sd = np.sqrt(np.diag(covariance - covariance @ np.linalg.solve(covariance + np.eye(6), covariance)))
    assert model.posterior_["walk"].shape[2:] == (5,)
    np.testing.assert_allclose(model.predict(DAYS, in_sample=True)[1:], expected[1:], atol=0.1 * sd[1:].max())
    found = model.predict(np.array([[6.0]]), return_std=True)
    np.testing.assert_allclose(found[0], expected[-1], atol=0.1)
    np.testing.assert_allclose(found[1], np.sqrt(sd[-1] ** 2 + 2.0), rtol=0.1)


def test_a_value_is_set_for_all_steps():
    model = with_draws(walk, walk=WALK)
    set_to = lambda X, value, **options: model.sample_posterior_predictive(X, intervention={"walk": value}, **options)  # noqa: E731
    found = set_to(DAYS, 7.0)["posterior_predictive"]["y"].to_numpy()[0]
    np.testing.assert_allclose(found.mean(0), [0.0, *[7.0] * 5], atol=0.08)
    with pytest.raises(ValueError, match=r"for 6 rows it has the shape \(5,\)"):
        set_to(DAYS, np.zeros(6))
    with pytest.raises(ValueError, match=r"cannot set \['walk'\] for new rows"):
        set_to(np.zeros((2, 1)), 7.0, in_sample=False)
