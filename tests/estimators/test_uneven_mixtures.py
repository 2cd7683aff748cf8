"""Predictive distributions whose draws differ, heavy tails, and counts in single precision, against closed forms."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats

from skaimz import NumPyroImpactRegressor

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROW = np.zeros((1, 1))


def model_of(distribution, draws, dtype="float64"):
    """Return a model whose outcome has a distribution that depends on a draw."""

    def kernel(X, y=None):
        effect = numpyro.sample("effect", dist.Normal())
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", distribution(effect + 0 * X[:, 0]), obs=y)

    return NumPyroImpactRegressor(kernel, posterior={"effect": np.asarray(draws, float)}, random_state=0, dtype=dtype)


def mean_excess(mu, sd, threshold):
    z = (mu - threshold) / sd
    return np.mean(sd * stats.norm.pdf(z) + (mu - threshold) * stats.norm.cdf(z))


def crps(mu, sd, y):
    """Grimit, Gneiting, Berrocal and Johnson (2006), for a mixture of normal distributions."""

    def spread(gap, sd):
        return gap * (2 * stats.norm.cdf(gap / sd) - 1) + 2 * sd * stats.norm.pdf(gap / sd)

    return spread(y - mu, sd).mean() - spread(mu[:, None] - mu, np.sqrt(2) * sd).mean() / 2


ONE_FAR_AWAY = np.where(np.arange(70) == 50, 1000.0, 0.0)


@pytest.mark.parametrize(
    ("mu", "sd"), [(ONE_FAR_AWAY, 1.0), (np.random.default_rng(0).normal(size=70), 0.1)], ids=["far", "narrow"]
)
def test_all_draws_count_in_integrals(mu, sd):
    model = model_of(lambda mean: dist.Normal(mean, sd), mu)
    found = model.predict_distribution(ROW)
    for threshold in (-1.0, 1.0):
        np.testing.assert_allclose(found.excess(threshold), mean_excess(mu, sd, threshold), rtol=1e-4)
    np.testing.assert_allclose(found.crps([0.3]), crps(mu, sd, 0.3), rtol=1e-4)
    end = model.predict_quantiles(ROW, [0.95])[0, 0]
    highest = end + mean_excess(mu, sd, end) / 0.05
    np.testing.assert_allclose(model.predict_expected_shortfall(ROW, 0.05, tail="upper"), highest, rtol=1e-4)


def test_sums_over_counts_of_all_draws():
    rates = np.where(np.arange(66) == 7, 60.0, 1.0)
    found = model_of(dist.Poisson, rates).predict_distribution(ROW)
    numbers = np.arange(200)
    mass = stats.poisson.pmf(numbers[:, None], rates).mean(axis=1)
    np.testing.assert_allclose(found.excess(10.3), (np.maximum(numbers - 10.3, 0) * mass).sum(), rtol=1e-6)
    between = (mass[:, None] * mass * abs(numbers[:, None] - numbers)).sum() / 2
    np.testing.assert_allclose(found.crps([3.0]), (mass * abs(numbers - 3)).sum() - between, rtol=1e-6)


def test_counts_of_many_millions_are_added_in_blocks():
    found = model_of(lambda _: dist.NegativeBinomial2(1e7, 2.0), [0.0], "float32").predict_distribution(ROW)
    # So many counts have nearly a gamma distribution of shape 2.
    scaled = stats.gamma(2, scale=5e6)
    expected = 1e7 * stats.gamma(3).sf(4) - 2e7 * scaled.sf(2e7)
    np.testing.assert_allclose(found.excess(2e7), expected, rtol=1e-4)


def test_heavy_tails():
    found = model_of(lambda _: dist.LogNormal(0.0, 3.0), [0.0]).predict_distribution(ROW)
    np.testing.assert_allclose(found.excess(1.0), np.exp(4.5) * stats.norm.cdf(3) - 0.5, rtol=1e-4)
    model = model_of(lambda _: dist.Pareto(1.0, 1.1), [0.0])
    shortfall = model.predict_expected_shortfall(ROW, 0.05, tail="upper")
    np.testing.assert_allclose(shortfall, 11.0 * 0.05 ** (-1 / 1.1), rtol=1e-4)
    model = model_of(lambda mean: dist.StudentT(0.1, mean, 1.0), [0.0])
    # The quantile is near -1.6e16, and grows with the tenth power of one over the level.
    np.testing.assert_allclose(stats.t(0.1).cdf(model.predict_quantiles(ROW, [0.01])[0]), [0.01], rtol=1e-6)


FLAT = {
    "a gap": (lambda low: dist.Uniform(low, low + 1), [0.0, 10.0], [0.5], [1.0]),
    "points": (dist.Delta, [1.0, 2.0, 3.0, 4.0], [0.25, 0.5, 0.75], [1.0, 2.0, 3.0]),
    "whole numbers": (lambda _: dist.DiscreteUniform(1, 10), np.zeros(7), np.arange(1, 10) / 10, np.arange(1.0, 10)),
}


@pytest.mark.parametrize(("distribution", "draws", "levels", "expected"), FLAT.values(), ids=FLAT)
def test_quantiles_are_the_least_numbers_that_reach_the_level(distribution, draws, levels, expected):
    found = model_of(distribution, draws).predict_quantiles(ROW, levels)
    np.testing.assert_allclose(found[0], expected, rtol=1e-12)


LARGE = {
    "beta-binomial": (lambda _: dist.BetaBinomial(20.0, 30.0, 2000), stats.betabinom(2000, 20, 30), 900.0),
    "binomial": (lambda _: dist.Binomial(1_000_000, 0.25), stats.binom(1_000_000, 0.25), 250_000.0),
    "beta": (lambda _: dist.Beta(1e5, 1e5), stats.beta(1e5, 1e5), 0.5),
    "negative binomial": (lambda _: dist.NegativeBinomial2(200.0, 50.0), stats.nbinom(50, 0.2), 200.0),
    "student of many": (lambda mean: dist.StudentT(1e8, mean, 1.0), stats.norm(), -2.0),
}


@pytest.mark.parametrize(("distribution", "reference", "at"), LARGE.values(), ids=LARGE)
def test_large_parameters_in_single_precision(distribution, reference, at):
    model = model_of(distribution, [0.0], "float32")
    found = model.predict_cdf(ROW, [at])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference.cdf(at), atol=1e-6)
    np.testing.assert_allclose(model.predict_quantiles(ROW, [0.05, 0.95])[0], reference.ppf([0.05, 0.95]), rtol=3e-6)


def test_a_large_count_in_another_row_changes_nothing():
    model = model_of(lambda _: dist.Binomial(2000, 0.05), [0.0], "float32")
    alone = model.predict_cdf(ROW, [100.0])
    assert model.predict_cdf(np.zeros((2, 1)), np.array([100.0, 1000.0]))[0] == pytest.approx(alone[0], abs=1e-7)


def test_several_intervals_and_one_number_for_all_rows():
    found = model_of(lambda mean: dist.Normal(mean, 1.0), [0.0, 1.0]).predict_distribution(np.zeros((3, 1)))
    both = found.interval([0.5, 0.9])
    assert both.shape == (3, 2, 2)
    np.testing.assert_array_equal(both[..., 1], found.interval(0.9))
    np.testing.assert_array_equal(found.crps(0.2), found.crps(np.full(3, 0.2)))
    np.testing.assert_array_equal(found.logpdf(0.2), found.logpdf(np.full(3, 0.2)))


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.SpeedWarning")
def test_rows_that_depend_on_others_are_chosen_once():
    def kernel(X, y=None):
        effect = numpyro.sample("effect", dist.Normal())
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(effect * (X - jnp.mean(X, axis=0))[:, 0], 1.0), obs=y)

    X = np.arange(3.0)[:, None]
    found = NumPyroImpactRegressor(kernel, posterior={"effect": np.ones(2)}, random_state=0).predict_distribution(X)
    np.testing.assert_allclose(found[[2, 0]].cdf([1.0, 1.0]), stats.norm.cdf([0.0, 2.0]), atol=1e-7)
    with pytest.raises(ValueError, match="chosen once"):
        found[[2, 2]]
