"""Forecasts, new points and new groups against closed forms and statsmodels, with parameters that are known.

Each kernel states the joint distribution of its outcomes, with all latent sites integrated out. Means and standard
deviations of new rows are then exact.
"""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from skaimz import NumPyroImpactRegressor

N, AHEAD = 40, 20
RNG = np.random.default_rng(0)
TIMES = np.arange(N + AHEAD, dtype=float)[:, None]
Y = 3.0 + np.cumsum(RNG.normal(scale=0.5, size=N)) + RNG.normal(scale=0.3, size=N)


def trend(X, y=None):
    """A local linear trend, whose level and slope start at standard normal values. Without moves, a local level."""
    of_level, of_slope, of_noise = numpyro.sample("scales", dist.HalfNormal(1.0).expand([3]).to_event(1))
    time = X[:, 0]
    after = jnp.maximum(time[:, None] - time[None, :], 0.0)[:, 1:]  # times since each move of the slope
    covariance = (
        1.0
        + time[:, None] * time[None, :]
        + of_level**2 * jnp.minimum(time[:, None], time[None, :])
        + of_slope**2 * after @ after.T
        + of_noise**2 * jnp.eye(len(X))
    )
    numpyro.sample("y", dist.MultivariateNormal(0.0, covariance), obs=y)


def autoregression(X, y=None):
    """An autoregression of the second order around a line, whose outcomes before the first are zero."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    n = len(X)
    shocks = jnp.eye(n) - coef[0] * jnp.eye(n, k=-1) - coef[1] * jnp.eye(n, k=-2)
    numpyro.sample("y", dist.MultivariateNormal(slope * X[:, 0], scale_tril=0.4 * jnp.linalg.inv(shocks)), obs=y)


def walk(X, y=None):
    """A random walk that is observed without noise, at any times."""
    step = numpyro.sample("step", dist.HalfNormal(1.0))
    numpyro.sample("y", dist.MultivariateNormal(0.0, step**2 * jnp.minimum(X, X.T)), obs=y)


def hierarchy(X, y=None):
    """Groups around a centre, with the number of its group as the first column of each row."""
    spread = numpyro.sample("spread", dist.HalfNormal(1.0))
    same = X[:, None, 0] == X[None, :, 0]
    numpyro.sample("y", dist.MultivariateNormal(0.0, 100.0 + spread**2 * same + 0.25 * jnp.eye(len(X))), obs=y)


def fitted(kernel, X, y, **parameters):
    posterior = {name: np.array([value, value]) for name, value in parameters.items()}
    return NumPyroImpactRegressor(kernel, posterior=posterior, random_state=0).fit(X, y)


def check(model, X, means, sds):
    mean, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(mean, means, atol=1e-5)
    np.testing.assert_allclose(std, sds, atol=1e-5)


@pytest.mark.parametrize("of_slope", [0.0, 0.1])
def test_trends_are_those_of_statsmodels(of_slope):
    structural = pytest.importorskip("statsmodels.tsa.statespace.structural")
    reference = structural.UnobservedComponents(Y, "lltrend")
    reference.ssm.initialize_known(np.zeros(2), np.eye(2))
    # Variances of the noise, of the level's moves, and of the slope's.
    forecast = reference.smooth([0.3**2, 0.5**2, of_slope**2]).get_forecast(AHEAD)
    model = fitted(trend, TIMES[:N], Y, scales=[0.5, of_slope, 0.3])
    check(model, TIMES[N:], forecast.predicted_mean, forecast.se_mean)


@pytest.mark.parametrize("coef", [[0.8, 0.0], [0.6, 0.3]])
def test_autoregressions(coef):
    means, weights = list(Y - 0.1 * TIMES[:N, 0]), [1.0, coef[0]]
    for _ in range(AHEAD):
        means.append(coef[0] * means[-1] + coef[1] * means[-2])
        weights.append(coef[0] * weights[-1] + coef[1] * weights[-2])
    sds = 0.4 * np.sqrt(np.cumsum(np.square(weights[:AHEAD])))
    model = fitted(autoregression, TIMES[:N], Y, coef=coef, slope=0.1)
    check(model, TIMES[N:], means[N:] + 0.1 * TIMES[N:, 0], sds)


def test_a_random_walk_is_interpolated_by_bridges():
    known, between = np.array([[1.0], [2.0], [5.0], [9.0]]), np.array([[1.5], [3.0], [4.0], [8.9], [12.0]])
    y, step = np.array([0.5, 2.0, -1.0, 1.0]), 0.7
    means = np.interp(between[:, 0], known[:, 0], y)
    # The variance of a Brownian bridge between two times, and of a walk after the last.
    variances = np.array([0.5 * 0.5, 1.0 * 2.0 / 3.0, 2.0 * 1.0 / 3.0, 3.9 * 0.1 / 4.0, 3.0])
    check(fitted(walk, known, y, step=step), between, means, step * np.sqrt(variances))


def test_new_groups_of_a_conjugate_hierarchy():
    numbers, spread = np.repeat(np.arange(6.0), [1, 2, 3, 5, 8, 5]), 1.5
    y = 2.0 + RNG.normal(scale=spread, size=6)[numbers.astype(int)] + RNG.normal(scale=0.5, size=len(numbers))
    counts = np.bincount(numbers.astype(int))
    averages, variances = np.bincount(numbers.astype(int), y) / counts, spread**2 + 0.25 / counts
    # The centre given the averages of the groups, each of which varies around it.
    precision = 1 / 100.0 + (1 / variances).sum()
    centre = (averages / variances).sum() / precision
    new = centre, 1 / precision + spread**2 + 0.25
    # A known group: its average is shrunk to the centre.
    share = spread**2 / variances[0]
    known = centre + share * (averages[0] - centre), spread**2 * (1 - share) + (1 - share) ** 2 / precision + 0.25
    means, squares = np.transpose([new, known])
    check(fitted(hierarchy, numbers[:, None], y, spread=spread), [[6.0], [0.0]], means, np.sqrt(squares))
