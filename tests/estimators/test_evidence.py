"""Factors and observed sites that tell something of the discrete states of a row, such as a covariate that is known."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy.special import logsumexp
from scipy.stats import norm

from skaimz import NumPyroImpactRegressor

KNOWN, Y = np.array([1, 0, -1, -1]), np.array([0.5, 1.5, 2.0, 3.5])
# Probability of a one, and that a one and a zero are known.
ONE, SEEN = 0.3, np.array([0.8, 0.5])


def partly_known(A, y=None):
    """A covariate of which -1 stands for a missing value, which is more often missing where it is one."""
    loc = numpyro.sample("loc", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", A.shape[0]):
        prior = dist.Bernoulli(ONE)
        value = numpyro.sample("value", prior.mask(False), infer={"enumerate": "parallel"})
        numpyro.factor("known", jnp.where((A >= 0) & (value != A), -jnp.inf, prior.log_prob(value)))
        numpyro.sample("seen", dist.Bernoulli(jnp.asarray(SEEN)[value]), obs=A >= 0)
        numpyro.sample("y", dist.Normal(loc + 2.0 * value, 0.5), obs=y)


@pytest.fixture(scope="module")
def model():
    model = NumPyroImpactRegressor(partly_known, param_input="A", posterior={"loc": np.array([1.0, 1.0])})
    return model.fit(KNOWN, Y)


def chances(y=None):
    """Return the probability that the covariate is one."""
    one, zero = ONE * (1 - SEEN[1]), (1 - ONE) * (1 - SEEN[0])
    if y is not None:
        one, zero = one * norm.pdf(y, 3.0, 0.5), zero * norm.pdf(y, 1.0, 0.5)
    return np.where(KNOWN >= 0, KNOWN, one / (one + zero))


def test_predictions_are_given_what_is_known(model):
    np.testing.assert_allclose(model.predict(KNOWN), 1.0 + 2.0 * chances(), rtol=1e-5)
    many = model.sample_y(np.repeat(KNOWN, 500), n_samples=20).reshape(4, -1)
    np.testing.assert_allclose(many.mean(1), 1.0 + 2.0 * chances(), atol=0.06)


def test_log_likelihood_and_states(model):
    densities = model.log_likelihood(KNOWN, Y)["log_likelihood"]["y"].to_numpy()[0, 0]
    with np.errstate(divide="ignore"):
        given = np.log([1 - chances(), chances()])
    expected = logsumexp(given + norm.logpdf(Y, [[1.0], [3.0]], 0.5), axis=0)
    np.testing.assert_allclose(densities, expected, rtol=1e-5)
    states = model.infer_discrete(KNOWN, Y).probabilities["value"]
    np.testing.assert_allclose(states[:, 1], chances(Y), atol=1e-5)
