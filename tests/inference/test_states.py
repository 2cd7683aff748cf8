"""Discrete sites of groups and of chains, which funsor sums out."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import scan
from scipy import stats
from scipy.special import logsumexp, softmax

from skaimz import NumPyroImpactRegressor
from skaimz.exceptions import StateWarning
from skaimz.inference import MCMC

CHAINS = MCMC(num_warmup=200, num_samples=1000, num_chains=1)

# A hidden Markov chain along the rows, with levels -1 and 1 of the outcome, which `shift` moves

START, STAY = np.array([0.5, 0.5]), np.array([[0.9, 0.1], [0.2, 0.8]])
LENGTH = 30


def chain(X, y=None):
    shift = numpyro.sample("shift", dist.Normal(0, 1))

    def step(before, row):
        _, observed = row
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
@pytest.mark.filterwarnings("ignore::skaimz.exceptions.RowsOfFitWarning")
def test_a_hidden_markov_chain(series):
    X, y, states = series
    model = NumPyroImpactRegressor(chain, inference=CHAINS, random_state=0).fit(X, y)
    grid = np.linspace(-0.9, 1.5, 121)
    log_p = np.array([forward_backward(shift, y)[0] for shift in grid]) - grid**2 / 2
    p = np.exp(log_p - logsumexp(log_p))
    mean = p @ grid
    std = np.sqrt(p @ (grid - mean) ** 2)
    shift, z = model.posterior_["shift"], model.posterior_["z"]
    assert shift.mean() == pytest.approx(mean, abs=0.4 * std)
    assert shift.std() == pytest.approx(std, rel=0.3)
    expected = np.tensordot(p, [forward_backward(each, y)[1] for each in grid], axes=1)
    posterior = model.infer_discrete(X, y)
    # Exact given the draws of `shift`.
    np.testing.assert_allclose(posterior.probabilities["z"], expected, atol=0.02)
    np.testing.assert_allclose(z[0].mean(axis=0), expected[:, 1], atol=6 * 0.5 / np.sqrt(1000))
    assert (posterior.most_probable("z") == states).mean() > 0.9
    density = model.log_likelihood(X, y)["log_likelihood"]["y"]
    assert density.dims == ("chain", "draw")
    np.testing.assert_allclose(density[0, :3], [forward_backward(each, y)[0] for each in shift[0, :3]], rtol=1e-4)
    drawn = model.sample_posterior_predictive_on_batch(X, return_datatree=False)["y"][0]
    np.testing.assert_allclose(drawn.mean(axis=0), mean + 2 * expected[:, 1] - 1, atol=6 * 1.3 / np.sqrt(1000))
    with pytest.warns(StateWarning, match=r"\['z'\] are drawn instead of summed out"):
        model.predict(X)
    # Neighbours are drawn jointly: the chain seldom moves.
    moves = (z[0][:, 1:] != z[0][:, :-1]).sum(axis=1)
    assert moves.mean() == pytest.approx(exact_moves(0.3, y), rel=0.1)


def exact_moves(shift, y):
    """Return the expected number of moves of the chain, as the derivative of the likelihood in their probability."""
    emission = stats.norm.logpdf(y[:, None], shift + np.array([-1.0, 1.0]), 0.7)

    def total(tilt):
        forward = np.log(START) + emission[0]
        for density in emission[1:]:
            forward = logsumexp(forward[:, None] + np.log(STAY) + tilt * (1 - np.eye(2)), axis=0) + density
        return logsumexp(forward)

    return (total(1e-4) - total(-1e-4)) / 2e-4


# States of many entries of each row, which are too many to sum one by one

MEANS = np.array([-2.0, 0.0, 2.0])


def words(X, y=None):
    spread = numpyro.sample("spread", dist.HalfNormal(1))
    with numpyro.plate("rows", X.shape[0], dim=-2), numpyro.plate("places", 8, dim=-1):
        z = numpyro.sample("z", dist.Categorical(jnp.array([0.2, 0.3, 0.5])))
        numpyro.sample("y", dist.Normal(X[:, :1] + jnp.array(MEANS)[z], spread), obs=y)


def test_states_of_many_entries_of_a_row():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(20, 1))
    truth = rng.choice(3, size=(20, 8), p=[0.2, 0.3, 0.5])
    y = X + MEANS[truth] + 0.6 * rng.normal(size=(20, 8))
    model = NumPyroImpactRegressor(words, random_state=0).fit(X, y)

    def by_state(spread):
        return np.log([0.2, 0.3, 0.5]) + stats.norm.logpdf(y[..., None], X[..., None] + MEANS, spread)

    grid = np.linspace(0.3, 1.0, 141)
    log_p = np.array([logsumexp(by_state(each), axis=-1).sum() for each in grid]) + stats.halfnorm.logpdf(grid)
    p = np.exp(log_p - logsumexp(log_p))
    spread, z = model.posterior_["spread"], model.posterior_["z"]
    assert spread.mean() == pytest.approx(p @ grid, rel=0.01)
    expected = np.tensordot(p, [softmax(by_state(each), axis=-1) for each in grid], axes=1)
    posterior = model.infer_discrete(X, y)
    np.testing.assert_allclose(posterior.probabilities["z"], expected, atol=0.01)
    density = model.log_likelihood(X[:3], y[:3], in_sample=False)["log_likelihood"]["y"]
    own = [logsumexp(by_state(each)[:3], axis=-1).sum(axis=-1) for each in spread[0, :4]]
    np.testing.assert_allclose(density[0, :4], own, rtol=1e-5)
    found = np.stack([(z[0] == state).mean(axis=0) for state in range(3)], axis=-1)
    np.testing.assert_allclose(found, expected, atol=6 * 0.5 / np.sqrt(len(z[0])))


def test_funsor_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpyro.contrib.funsor", None)
    with pytest.raises(ImportError, match=r"\['z'\] have too many joint states.*pip install 'skaimz\[discrete\]'"):
        NumPyroImpactRegressor(words).fit(np.zeros((4, 1)), np.zeros((4, 8)))


def counted_from_one(X, y=None):
    with numpyro.plate("rows", X.shape[0], dim=-2), numpyro.plate("places", 8, dim=-1):
        z = numpyro.sample("z", dist.DiscreteUniform(1, 3))
        numpyro.sample("y", dist.Normal(X[:, :1] + z, 1.0), obs=y)


def test_states_that_numpyro_would_count_from_zero_are_refused():
    with pytest.raises(ValueError, match="states of site 'z' begin at 1"):
        NumPyroImpactRegressor(counted_from_one).fit(np.zeros((4, 1)), np.zeros((4, 8)))


# Rows with a chain of their own

SURVIVE, SEEN = 0.8, 0.6


def capture(X, y=None):
    """Whether an animal is seen at each of 5 times; it lives at the first."""
    shift = numpyro.sample("shift", dist.Normal(0, 1))

    def step(alive, observed):
        with numpyro.plate("rows", X.shape[0], dim=-1):
            alive = numpyro.sample("alive", dist.Bernoulli(SURVIVE * alive), infer={"enumerate": "parallel"})
            numpyro.sample("y", dist.Bernoulli(alive * jax.nn.sigmoid(shift + X[:, 0])), obs=observed)
        return alive, None

    scan(step, jnp.ones(X.shape[0], int), None if y is None else jnp.swapaxes(y, 0, 1), length=5)


def test_capture_and_recapture():
    X = np.array([[0.0], [0.5], [-0.5]])
    y = np.array([[1, 1, 0, 0, 0], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0]])
    model = NumPyroImpactRegressor(capture, posterior={"shift": np.array([0.0, 1.0])}, random_state=0)
    seen = 1 / (1 + np.exp(-(np.array([[0.0], [1.0]]) + X[:, 0])))
    forward = np.zeros((2, 3, 2))
    forward[..., 1] = 1.0
    for time in range(5):
        moved = np.stack([forward[..., 0] + (1 - SURVIVE) * forward[..., 1], SURVIVE * forward[..., 1]], axis=-1)
        emission = np.stack([1 - y[:, time] + 0 * seen, np.where(y[:, time], seen, 1 - seen)], axis=-1)
        forward = moved * emission
    density = model.log_likelihood(X, y, in_sample=False)["log_likelihood"]["y"]
    assert density.dims == ("chain", "draw", "rows")
    np.testing.assert_allclose(density[0], np.log(forward.sum(axis=-1)), rtol=1e-4)
    last = (forward[..., 1] / forward.sum(axis=-1)).mean(axis=0)
    probabilities = model.infer_discrete(X, y).probabilities["alive"]
    assert probabilities.shape == (3, 5, 2)
    np.testing.assert_allclose(probabilities[:, -1, 1], last, rtol=1e-4)
    mean = model.predict(X)
    expected = SURVIVE ** np.arange(1, 6) * seen.mean(axis=0)[:, None]
    np.testing.assert_allclose(mean, expected, rtol=1e-4)


def levels_in_time(X, y=None):
    """At each of 3 times, rows share a level, and each row may be one higher."""

    def step(carry, observed):
        level = numpyro.sample("level", dist.Normal(2.0, 0.5))
        with numpyro.plate("rows", X.shape[0], dim=-1):
            higher = numpyro.sample("higher", dist.Bernoulli(0.3), infer={"enumerate": "parallel"})
            numpyro.sample("y", dist.Normal(level + higher, 1.0), obs=observed)
        return carry, None

    scan(step, 0, None if y is None else jnp.swapaxes(y, 0, 1), length=3)


def test_sites_that_rows_share_keep_their_prior_in_a_scan():
    y = np.random.default_rng(0).normal(1.0, 1.0, size=(4, 3))
    model = NumPyroImpactRegressor(levels_in_time, random_state=0).fit(np.zeros((4, 1)), y)
    level = np.linspace(-1.0, 4.0, 2001)[:, None, None]
    rows = np.log(0.7 * stats.norm.pdf(y, level) + 0.3 * stats.norm.pdf(y, level + 1))
    density = np.exp(rows.sum(axis=1)) * stats.norm.pdf(level[:, :, 0], 2.0, 0.5)
    weight = density / density.sum(axis=0)
    mean = (weight * level[:, 0]).sum(axis=0)
    sd = np.sqrt((weight * (level[:, 0] - mean) ** 2).sum(axis=0))
    draws = model.posterior_["level"].reshape(-1, 3)
    np.testing.assert_allclose(draws.mean(axis=0), mean, atol=0.15 * sd.min())
    np.testing.assert_allclose(draws.std(axis=0), sd, rtol=0.1)
