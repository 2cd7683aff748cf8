"""Outcomes in bodies of NumPyro's scan, loops of JAX, solutions of differential equations, and contributed modules."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from distributions import EXAMPLES
from jax.experimental.ode import odeint
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.contrib.hsgp.approximation import hsgp_squared_exponential
from numpyro.infer.util import log_likelihood

from skaimz import NumPyroImpactRegressor

pytestmark = pytest.mark.filterwarnings("ignore::skaimz.exceptions.SpeedWarning")
RNG = np.random.default_rng(0)
X = np.sort(RNG.uniform(0.1, 1.0, size=(9, 1)), axis=0)
DRAWS = {"a": RNG.normal(0.5, 0.1, size=20)}


def model_of(kernel, draws=DRAWS):
    return NumPyroImpactRegressor(kernel, posterior=draws, dtype="float64", random_state=0)


def scanned(distribution):
    def kernel(X, y=None):
        a = numpyro.sample("a", dist.Normal(0.0, 1.0))

        def step(carry, row):
            x, seen = row
            numpyro.sample("y", distribution(a * x), obs=seen)
            return carry, None

        scan(step, 0.0, (X[:, 0], y))

    return kernel


def mixture(x):
    return dist.MixtureSameFamily(dist.Categorical(probs=jnp.array([0.3, 0.7])), dist.Normal(jnp.stack([x, 2 * x], -1)))


def in_a_plate(distribution):
    def kernel(X, y=None):
        a = numpyro.sample("a", dist.Normal(0.0, 1.0))
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", distribution(a * X[:, 0]), obs=y)

    return kernel


@pytest.mark.parametrize(
    "name",
    [
        "AsymmetricLaplaceQuantile",
        "GaussianCopula",
        "LeftCensoredDistribution",
        "MixtureGeneral",
        "mixture",
        "MultivariateNormal",
        "OrderedLogistic",
        "ZeroInflatedPoisson",
    ],
)
def test_moments_of_outcomes_in_a_scan(name):
    distribution = EXAMPLES.get(name, mixture)
    stepwise, together = (model_of(make(distribution)) for make in (scanned, in_a_plate))
    for one, other in zip(stepwise.predict(X, return_std=True), together.predict(X, return_std=True), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    assert stepwise.sample_y(X, n_samples=3).shape == together.sample_y(X, n_samples=3).shape


def forecast(X, y=None):
    """An outcome that is conditioned instead of observed."""
    a = numpyro.sample("a", dist.Normal(0.0, 1.0))

    def step(before, x):
        now = numpyro.sample("y", dist.Normal(a * before + x, 0.5))
        return now, None

    with handlers.condition(data={} if y is None else {"y": y}):
        scan(step, 0.0, X[:, 0])


def logistic_growth(X, y=None):
    a = numpyro.sample("a", dist.Normal(0.0, 1.0))
    size = odeint(lambda z, t, a: a * z * (1 - z), jnp.array(0.2), X[:, 0], a, rtol=1e-8, atol=1e-8, mxstep=200)
    numpyro.sample("y", dist.Normal(size, 0.1), obs=y)


def repeated(X, y=None):
    a = numpyro.sample("a", dist.Normal(0.0, 1.0))
    size = jax.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * a), (0, X[:, 0]))[1]
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(size, 0.1), obs=y)


def smooth(X, y=None):
    a = numpyro.sample("a", dist.HalfNormal(1.0))
    f = hsgp_squared_exponential(x=X, alpha=a, length=0.5, ell=2.0, m=4)
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(f, 0.1), obs=y)


def before(a, x):
    """Return the mean of each outcome, given none, if it is `a` times the one before plus x."""
    means = np.zeros(len(a))
    for value in x:
        means = a * means + value
        yield means.mean()


def grown(a, x):
    return 1 / (1 + 4 * np.exp(-a[:, None] * (x - x[0])))


@pytest.mark.parametrize(
    ("kernel", "mean", "error"),
    [
        (forecast, lambda a, x: np.array(list(before(a, x))), 0.6),
        (logistic_growth, lambda a, x: grown(a, x).mean(0), 1e-5),
        (repeated, lambda a, x: (a**3).mean() * x, 1e-6),
        (smooth, None, None),
    ],
)
def test_means_and_log_likelihoods(kernel, mean, error):
    draws = DRAWS | ({"beta": RNG.normal(size=(20, 4))} if kernel is smooth else {})
    model = model_of(kernel, draws)
    y = RNG.normal(size=9)
    found = model.log_likelihood(X, y)["log_likelihood"]["y"][0]
    with jax.enable_x64(True):
        by_numpyro = log_likelihood(kernel, draws, X, jnp.asarray(y))["y"]
    np.testing.assert_allclose(found, by_numpyro, rtol=1e-6)
    if mean is not None:
        np.testing.assert_allclose(model.predict(X), mean(draws["a"], X[:, 0]), atol=error)
