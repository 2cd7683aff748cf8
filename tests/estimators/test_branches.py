"""Kernels that score outcomes in one branch and draw them in another, and outputs that all rows share."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.stats
from numpyro.infer.util import log_density, log_likelihood
from scipy.stats import norm

from skaimz import NumPyroImpactRegressor
from skaimz.inference import MCMC, SVI
from skaimz.inference.data import Data, padded, weighted_model
from skaimz.kernels import Inputs, trace_kernel

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 1))
Y = 1.5 * X[:, 0] + RNG.normal(size=40)
WEIGHT = RNG.integers(0, 4, size=40).astype(float)
DRAWS = {"slope": RNG.normal(1.0, 0.3, size=4000)}


def by_factor(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        if y is None:
            noise = numpyro.sample("noise", dist.Normal(0.0, 1.0))
            numpyro.deterministic("y", slope * X[:, 0] + noise)
        else:
            numpyro.factor("y", dist.Normal(slope * X[:, 0], 1.0).log_prob(y))


def by_another_site(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("drawn" if y is None else "scored", dist.Normal(slope * X[:, 0], 1.0), obs=y)


def by_total(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    if y is None:
        numpyro.sample("y", dist.Normal(slope * X[:, 0], 1.0))
    else:
        numpyro.factor("score", dist.Normal(slope * X[:, 0], 1.0).log_prob(y).sum())


def of_posterior(weight=None):
    """Return mean and standard deviation of the slope."""
    x, weight = X[:, 0], np.ones(40) if weight is None else weight
    precision = (weight * x * x).sum() + 1
    return (weight * x * Y).sum() / precision, precision**-0.5


@pytest.mark.parametrize(
    ("kernel", "weight", "inference"),
    [
        (by_factor, WEIGHT, "auto"),
        (by_factor, None, SVI(batch_size=10, num_epochs=400)),
        (by_another_site, WEIGHT, "auto"),
        (by_total, None, "auto"),
    ],
)
def test_fits_are_of_the_branch_that_scores(kernel, weight, inference):
    model = NumPyroImpactRegressor(kernel, inference=inference, dtype="float64", random_state=0)
    model.fit(X, Y, sample_weight=weight)
    mean, std = of_posterior(weight)
    slope = model.posterior_["slope"]
    assert set(model.posterior_) == {"slope"}
    assert abs(slope.mean() - mean) < 0.3 * std
    np.testing.assert_allclose(slope.std(), std, rtol=0.2)


@pytest.mark.parametrize("kernel", [by_factor, by_another_site])
def test_predictions_are_of_the_branch_that_draws(kernel):
    model = NumPyroImpactRegressor(kernel, posterior=DRAWS, dtype="float64", random_state=0)
    slope, x = DRAWS["slope"], X[:, 0]
    mean, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(mean, slope.mean() * x, atol=5 / np.sqrt(4000))
    np.testing.assert_allclose(std**2, 1 + slope.var() * x**2, rtol=0.15)
    np.testing.assert_allclose(model.predict(X[3:5]), mean[3:5], rtol=1e-9)
    low, high = model.predict_quantiles(X[:3], [0.1, 0.9]).T
    np.testing.assert_allclose(high - low, 2 * 1.2816 * np.sqrt(1 + slope.var() * x[:3] ** 2), rtol=0.1)
    (found,) = model.log_likelihood(X, Y)["log_likelihood"].values()
    (by_numpyro,) = log_likelihood(kernel, DRAWS, X, Y).values()
    np.testing.assert_allclose(found[0], by_numpyro, rtol=1e-4, atol=1e-5)


def test_rows_have_no_share_of_a_sum():
    model = NumPyroImpactRegressor(by_total, posterior=DRAWS, random_state=0)
    np.testing.assert_allclose(model.predict(X), DRAWS["slope"].mean() * X[:, 0], rtol=1e-4)
    with pytest.raises(ValueError, match="the factor 'score' has no entry for each row"):
        model.log_likelihood(X, Y)


def scored_alone(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    if y is not None:
        numpyro.factor("score", dist.Normal(slope * X[:, 0], 1.0).log_prob(y))


def test_outcomes_that_nothing_draws_are_refused():
    with pytest.raises(ValueError, match="scores its outcome by 'score', but has no site to predict it from"):
        NumPyroImpactRegressor(scored_alone).fit(X, Y)


def with_level_of_the_fit(X, y=None):
    """A shift and errors of rows that predictions leave out."""
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    shift = 0.0 if y is None else numpyro.sample("shift", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        error = 0.0 if y is None else numpyro.sample("error", dist.Normal(0.0, 0.5))
        numpyro.sample("y", dist.Normal(slope * X[:, 0] + shift + error, 1.0), obs=y)


def test_latent_sites_of_a_fit_alone():
    settings = MCMC(num_warmup=300, num_samples=1500)
    model = NumPyroImpactRegressor(with_level_of_the_fit, inference=settings, dtype="float64", random_state=0)
    model.fit(X, Y)
    posterior = {name: draws.reshape(-1, *draws.shape[2:]) for name, draws in model.posterior_.items()}
    assert {name: draws.shape[1:] for name, draws in posterior.items()} == {"slope": (), "shift": (), "error": (40,)}
    design = np.column_stack([X[:, 0], np.ones(40)])
    covariance = np.linalg.inv(design.T @ design / 1.25 + np.eye(2))
    mean = covariance @ design.T @ Y / 1.25
    for name, expected, std in zip(("slope", "shift"), mean, np.sqrt(np.diag(covariance)), strict=True):
        assert abs(posterior[name].mean() - expected) < 0.3 * std
    np.testing.assert_allclose(model.predict(X), posterior["slope"].mean() * X[:, 0], rtol=1e-6)
    assert set(model.sample_prior_predictive(X, num_samples=3)["prior_predictive"]) == {"y", "slope"}
    found = model.log_likelihood(X, Y)["log_likelihood"]["y"].values.reshape(-1, 40)
    by_numpyro = log_likelihood(with_level_of_the_fit, posterior, X, Y)["y"]
    np.testing.assert_allclose(found, by_numpyro, rtol=1e-4, atol=1e-5)
    assert model.describe().loc["shift", "kind"] == "latent (in fits only)"


def of_one_mean(X, y=None):
    mean = numpyro.sample("mean", dist.Normal(0.0, 10.0))
    numpyro.sample("y", dist.Normal(mean, 0.5), obs=y)


def of_mean_vector(X, y=None):
    mean = numpyro.sample("mean", dist.Normal(0.0, 10.0).expand([2]).to_event(1))
    numpyro.sample("seen", dist.MultivariateNormal(mean, jnp.array([[1.0, 0.5], [0.5, 1.0]])), obs=y)


def test_one_distribution_for_all_rows():
    model = NumPyroImpactRegressor(of_one_mean, dtype="float64", random_state=0).fit(X, Y, sample_weight=WEIGHT)
    precision = WEIGHT.sum() / 0.25 + 0.01
    mean = model.posterior_["mean"].ravel()
    assert abs(mean.mean() - WEIGHT @ Y / 0.25 / precision) < 0.3 * precision**-0.5
    predicted, std = model.predict(X[:7], return_std=True)
    np.testing.assert_allclose(predicted, np.full(7, mean.mean()))
    np.testing.assert_allclose(std**2, np.full(7, 0.25 + mean.var()))
    drawn = model.sample_y(X[:7], n_samples=500)
    assert np.abs(np.corrcoef(drawn) - np.eye(7)).max() < 0.25  # each row has an outcome of its own
    found = model.log_likelihood(X, Y)["log_likelihood"]["y"].values[0]
    np.testing.assert_allclose(found, scipy.stats.norm.logpdf(Y, mean[:, None], 0.5), rtol=1e-6)


def test_one_distribution_of_several_columns():
    draws = {"mean": RNG.normal(size=(50, 2))}
    model = NumPyroImpactRegressor(of_mean_vector, posterior=draws, dtype="float64", random_state=0)
    Y2 = RNG.normal(size=(6, 2))
    np.testing.assert_allclose(model.predict(X[:6]), np.tile(draws["mean"].mean(0), (6, 1)))
    found = model.log_likelihood(X[:6], Y2)["log_likelihood"]["seen"].values[0]
    by_numpyro = log_likelihood(of_mean_vector, draws, X[:6], Y2)["seen"]
    np.testing.assert_allclose(found, by_numpyro, rtol=1e-4)


@pytest.mark.parametrize("kernel", [by_factor, of_one_mean])
def test_weights_count_rows(kernel):
    traced, numbers = trace_kernel(kernel, Inputs({"X": X}, {}), "X", "y")
    data = padded(traced, Data(numbers, {"X": X, "y": Y}, {}, WEIGHT), 40)
    often = WEIGHT.astype(int)
    at = {"slope": 0.7, "mean": 0.3}
    expected = log_density(kernel, (np.repeat(X, often, 0), np.repeat(Y, often)), {}, at)[0]
    assert float(log_density(weighted_model(traced), data, {}, at)[0]) == pytest.approx(float(expected), rel=1e-5)


def mean_or_outcome(X, y=None):
    """Without an outcome, its mean has the name of the site that observes it otherwise, as in autoencoders."""
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    if y is None:
        numpyro.deterministic("y", slope * X[:, 0])
    else:
        numpyro.sample("y", dist.Normal(slope * X[:, 0], 0.5), obs=y)


def test_a_mean_in_the_place_of_the_outcome():
    X = np.linspace(-1.0, 1.0, 30)[:, None]
    y = 2.0 * X[:, 0] + 0.5 * np.random.default_rng(0).normal(size=30)
    model = NumPyroImpactRegressor(mean_or_outcome, random_state=0).fit(X, y)
    precision = (X**2).sum() / 0.25 + 1
    slope = model.posterior_["slope"][0]
    assert slope.mean() == pytest.approx((X[:, 0] @ y) / 0.25 / precision, abs=0.02)
    np.testing.assert_allclose(model.predict([[2.0]]), [2.0 * slope.mean()], rtol=1e-4)
    densities = model.log_likelihood(X, y)["log_likelihood"]["y"].to_numpy()[0]
    np.testing.assert_allclose(densities[0], norm.logpdf(y, slope[0] * X[:, 0], 0.5), rtol=1e-3)
