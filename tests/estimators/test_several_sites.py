"""Several sites that observe the outcome, or parts of it: a row's density is that of all of them together."""

import itertools

import dask.array as da
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import special, stats

from skaimz import NumPyroImpactRegressor, metrics

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 1))
SLOPES = np.array([0.5, -0.3])
COUNTS = RNG.poisson(np.exp(0.5 * X)).astype(float)
Y = np.concatenate([0.5 * X + RNG.normal(size=(20, 1)), COUNTS, 0.5 * X + RNG.normal(size=(20, 1))], axis=1)


def columns(X, y=None):
    """A number and a count."""
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("number", dist.Normal(slope * X[:, 0], 1.0), obs=None if y is None else y[:, 0])
        numpyro.sample("count", dist.Poisson(jnp.exp(slope * X[:, 0])), obs=None if y is None else y[:, 1])


def shapes(X, y=None):
    """A count, and two numbers on an axis of their own, which comes before that of the rows."""
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        with numpyro.plate("numbers", 2):
            numpyro.sample("number", dist.Normal(slope * X[:, 0], 1.0), obs=None if y is None else y[:, ::2].T)
        numpyro.sample("count", dist.Poisson(jnp.exp(slope * X[:, 0])), obs=None if y is None else y[:, 1])


def hurdle(X, y=None):
    """Whether there are any, and how many if there are."""
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("any", dist.Bernoulli(logits=slope * X[:, 0]), obs=None if y is None else (y > 0) * 1.0)
        with numpyro.handlers.mask(mask=True if y is None else y > 0):
            numpyro.sample("y", dist.Exponential(jnp.exp(slope * X[:, 0])), obs=y)


def noisy_input(X, y=None):
    """The input is measured with noise. Its density is no part of the outcome's."""
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("measured", dist.Normal(slope, 1.0), obs=X[:, 0])
        numpyro.sample("y", dist.Normal(slope * X[:, 0], 1.0), obs=y)


def adjusted(X, y=None):
    """An outcome, and what it has beyond its regression on an input that is centred over all rows."""
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * X[:, 0], 1.0), obs=y)
        beyond = None if y is None else y - slope * (X[:, 0] - X[:, 0].mean())
        numpyro.sample("beyond", dist.Normal(0.0, 2.0), obs=beyond)


STAY = np.array([[0.8, 0.2], [0.3, 0.7]])
MEANS = np.array([-1.0, 1.0])


def looped_states(X, y=None):
    """A hidden Markov model as a Python loop over three times, a site for each."""
    shift, state = numpyro.sample("shift", dist.Normal(0.0, 1.0)), 0
    with numpyro.plate("rows", X.shape[0]):
        for t in range(3):
            state = numpyro.sample(
                f"state_{t}", dist.Categorical(jnp.asarray(STAY)[state]), infer={"enumerate": "parallel"}
            )
            observed = None if y is None else y[:, t]
            numpyro.sample(f"y_{t}", dist.Normal(shift + jnp.asarray(MEANS)[state], 1.0), obs=observed)


def numbers(columns, slope):
    return stats.norm(slope * X, 1.0).logpdf(Y[:, columns]).sum(axis=1)


def counts(slope):
    return stats.poisson(np.exp(slope * X[:, 0])).logpmf(Y[:, 1])


def of_hurdle(slope):
    y, some = Y[:, 1], Y[:, 1] > 0
    rate = np.exp(slope * X[:, 0])
    chance = special.expit(slope * X[:, 0])
    return np.where(some, np.log(chance) + stats.expon(scale=1 / rate).logpdf(y), np.log1p(-chance))


EXPECTED = {
    "columns": (columns, Y, lambda slope: numbers([0], slope) + counts(slope)),
    "shapes": (shapes, Y, lambda slope: numbers([0, 2], slope) + counts(slope)),
    "hurdle": (hurdle, Y[:, 1], of_hurdle),
    "adjusted": (
        adjusted,
        Y[:, 0],
        lambda slope: numbers([0], slope) + stats.norm(slope * (X[:, 0] - X.mean()), 2.0).logpdf(Y[:, 0]),
    ),
    "noisy input": (noisy_input, Y[:, 0], lambda slope: numbers([0], slope)),
}


@pytest.mark.filterwarnings("ignore:The kernel runs on all rows at once:skaimz.exceptions.SpeedWarning")
@pytest.mark.parametrize("name", EXPECTED)
def test_densities_are_those_of_all_sites(name):
    kernel, y, density = EXPECTED[name]
    model = NumPyroImpactRegressor(kernel, posterior={"slope": SLOPES}, random_state=0).fit(X, y)
    expected = np.stack([density(slope) for slope in SLOPES])
    tree = model.log_likelihood(X, y, in_sample=False, batch_size=7)
    found = tree["log_likelihood"][model.kernel_spec_.output]
    assert found.dims == ("chain", "draw", "rows")
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    joint = model.log_predictive_density(X, y)
    np.testing.assert_allclose(joint, special.logsumexp(expected, axis=0) - np.log(2), rtol=1e-5)


def test_states_are_summed_out_of_all_sites():
    shifts = np.array([0.2, -0.1])
    model = NumPyroImpactRegressor(looped_states, posterior={"shift": shifts}, random_state=0).fit(X, Y)
    paths = np.array(list(itertools.product((0, 1), repeat=3)))
    prior = STAY[0, paths[:, 0]] * STAY[paths[:, 0], paths[:, 1]] * STAY[paths[:, 1], paths[:, 2]]
    # On the axes: draws, rows, paths.
    by_time = stats.norm(shifts[:, None, None, None] + MEANS[paths], 1.0).logpdf(Y[:, None])
    joint = np.log(prior) + by_time.sum(axis=-1)
    expected = special.logsumexp(joint, axis=-1)
    found = model.log_likelihood(X, Y, in_sample=False)["log_likelihood"][model.kernel_spec_.output]
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    states = model.infer_discrete(X, Y, in_sample=False)
    weights = np.exp(joint - expected[..., None]).mean(axis=0)
    for t in range(3):
        np.testing.assert_allclose(states.probabilities[f"state_{t}"][:, 1], weights @ paths[:, t], atol=1e-5)


@pytest.fixture(scope="module")
def two_columns():
    return NumPyroImpactRegressor(columns, posterior={"slope": SLOPES}, random_state=0).fit(X, Y)


def test_predictions_are_of_the_output(two_columns):
    expected = np.exp(SLOPES * X).mean(axis=1)
    np.testing.assert_allclose(two_columns.predict(X), expected, rtol=1e-5)
    drawn = two_columns.sample_posterior_predictive(X, return_sites=["number", "count"])
    assert sorted(drawn["posterior_predictive"].data_vars) == ["count", "number"]


def test_blocks_of_dask(two_columns):
    rows, outcomes = (da.from_array(array, chunks=(7, -1)) for array in (X, Y))
    lazy = two_columns.log_likelihood(rows, outcomes, in_sample=False)["log_likelihood"]["count"]
    expected = two_columns.log_likelihood(X, Y, in_sample=False)["log_likelihood"]["count"]
    np.testing.assert_allclose(lazy.compute(), expected, rtol=1e-6)
    joint = two_columns.log_predictive_density(rows, outcomes)
    np.testing.assert_allclose(np.asarray(joint), two_columns.log_predictive_density(X, Y), rtol=1e-6)


@pytest.mark.parametrize("score", [lambda model: model.score(X, Y), lambda model: metrics.NegCRPS()(model, X, Y)])
def test_a_part_is_not_compared_with_the_whole(two_columns, score):
    with pytest.raises(ValueError, match=r"output 'count' observes a part of y, .* of the shape \(n_rows\)"):
        score(two_columns)
