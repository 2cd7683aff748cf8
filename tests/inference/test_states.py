"""Discrete sites of groups and of chains, which funsor sums out."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import scan
from scipy import stats
from scipy.special import logsumexp, softmax

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.exceptions import SpeedWarning, StateWarning
from skaimz.inference import MCMC

CHAINS = MCMC(num_warmup=200, num_samples=1000, num_chains=1)

# A hidden Markov chain along the rows, with levels -1 and 1 of the outcome, which `shift` moves

START, STAY = np.array([0.5, 0.5]), np.array([[0.9, 0.1], [0.2, 0.8]])
LENGTH = 50


def chain(X, y=None):
    shift = numpyro.sample("shift", dist.Normal(0, 1))

    def step(before, row):
        x, observed = row
        probabilities = jnp.where(before < 0, jnp.array(START), jnp.array(STAY)[before])
        z = numpyro.sample("z", dist.Categorical(probabilities), infer={"enumerate": "parallel"})
        numpyro.sample("y", dist.Normal(shift + 2.0 * z - 1.0, 0.7), obs=observed)
        return z, None

    scan(step, -1, (X[:, 0], y))


@pytest.fixture(scope="module")
def series():
    rng = np.random.default_rng(3)
    states = [0]
    for _ in range(LENGTH - 1):
        states.append(rng.choice(2, p=STAY[states[-1]]))
    y = 0.3 + 2.0 * np.array(states) - 1.0 + 0.7 * rng.normal(size=LENGTH)
    return np.arange(LENGTH, dtype=np.float32)[:, None], y.astype(np.float32), np.array(states)


def forward_backward(shift, y):
    """Return the log-likelihood, and the probabilities of the states at each time."""
    emission = stats.norm.logpdf(y[:, None], shift + np.array([-1.0, 1.0]), 0.7)
    forward = [np.log(START) + emission[0]]
    for density in emission[1:]:
        forward.append(logsumexp(forward[-1][:, None] + np.log(STAY), axis=0) + density)
    backward = [np.zeros(2)]
    for density in emission[:0:-1]:
        backward.append(logsumexp(np.log(STAY) + density + backward[-1], axis=1))
    return logsumexp(forward[-1]), softmax(np.array(forward) + np.array(backward[::-1]), axis=1)


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.SpeedWarning")
def test_a_hidden_markov_chain(series):
    X, y, states = series
    model = NumPyroImpactRegressor(chain, inference=CHAINS, random_state=0).fit(X, y)
    grid = np.linspace(-0.7, 1.3, 201)
    log_p = np.array([forward_backward(shift, y)[0] for shift in grid]) - grid**2 / 2
    p = np.exp(log_p - logsumexp(log_p))
    mean = p @ grid
    std = np.sqrt(p @ (grid - mean) ** 2)
    shift, z = model.posterior_["shift"], model.posterior_["z"]
    assert shift.mean() == pytest.approx(mean, abs=0.4 * std)
    assert shift.std() == pytest.approx(std, rel=0.3)
    expected = np.tensordot(p, [forward_backward(each, y)[1] for each in grid], axes=1)
    posterior = model.infer_discrete(X, y)
    np.testing.assert_allclose(posterior.probabilities["z"], expected, atol=6 * 0.5 / np.sqrt(1000))
    np.testing.assert_allclose(z[0].mean(axis=0), expected[:, 1], atol=6 * 0.5 / np.sqrt(1000))
    assert (posterior.most_probable("z") == states).mean() > 0.9
    drawn = model.sample_posterior_predictive_on_batch(X, return_datatree=False)["y"][0]
    np.testing.assert_allclose(drawn.mean(axis=0), mean + 2 * expected[:, 1] - 1, atol=6 * 1.3 / np.sqrt(1000))
    with pytest.warns(StateWarning, match=r"\['z'\] are drawn instead of summed out"):
        model.predict(X)
