"""Kernels that need the values of their arguments while they are traced."""

import warnings

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer.util import log_likelihood

from skaimz import NumPyroImpactRegressor
from skaimz.exceptions import ConcreteKernelWarning
from skaimz.inference import MCMC, SVI

RNG = np.random.default_rng(0)
X = RNG.uniform(1.0, 2.0, size=(30, 1))
GROUP = np.arange(30) % 3
Y = np.array([-1.0, 0.0, 2.0])[GROUP] + np.log(X[:, 0]) + 0.5 * RNG.normal(size=30)
WEIGHT = RNG.integers(1, 4, size=30).astype(float)


def counting(X, y=None, *, group):
    """Groups are counted, a function of NumPy is called, and a sum decides a branch."""
    with numpyro.plate("groups", len(np.unique(group))):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
    trend = np.log(X[:, 0]) if X.sum() > 0 else np.zeros(len(X))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(level[group] + trend, 0.5), obs=y)


def counting_table(X, y=None, *, group, table):
    with numpyro.plate("groups", int(table.max())):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(level[group] + jnp.log(X[:, 0]), 0.5), obs=y)


def of_posterior(weight):
    """Return means and standard deviations of the levels."""
    residual = Y - np.log(X[:, 0])
    precision = np.bincount(GROUP, weight) / 0.25 + 1
    return np.bincount(GROUP, weight * residual) / 0.25 / precision, precision**-0.5


@pytest.fixture(scope="module")
def fitted():
    with pytest.warns(ConcreteKernelWarning, match=r"needs the values of \['X', 'group'\].* all rows are computed at"):
        return NumPyroImpactRegressor(counting, dtype="float64", random_state=0).fit(
            X, Y, group=GROUP, sample_weight=WEIGHT
        )


def test_the_posterior(fitted):
    mean, std = of_posterior(WEIGHT)
    level = fitted.posterior_["level"][0]
    assert (np.abs(level.mean(0) - mean) < 0.3 * std).all()
    np.testing.assert_allclose(level.std(0), std, rtol=0.2)


def test_predictions_for_other_rows_are_of_their_values(fitted):
    rows, group = X[::-1][:6] + 1.0, GROUP[:6]
    level = fitted.posterior_["level"][0]
    with pytest.warns(ConcreteKernelWarning):
        predicted = fitted.predict(rows, group=group)
    np.testing.assert_allclose(predicted, level.mean(0)[group] + np.log(rows[:, 0]), rtol=1e-6)
    with pytest.warns(ConcreteKernelWarning):
        found = fitted.log_likelihood(rows, Y[:6], group=group)["log_likelihood"]["y"][0]
    by_numpyro = log_likelihood(counting, {"level": level}, rows, Y[:6], group=group)["y"]
    np.testing.assert_allclose(found, by_numpyro, rtol=1e-4)


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.ConcreteKernelWarning")
def test_what_is_lost(fitted):
    with pytest.raises(ValueError, match=r"Site 'level' has the shape \(2,\) for these rows, and \(3,\) in the fit"):
        fitted.predict(X[:2], group=GROUP[1:3])
    with pytest.raises(ValueError, match=r"needs the values of \['X', 'group'\] .* which a tree does not hold"):
        NumPyroImpactRegressor.from_datatree(counting, fitted.to_datatree())
    with pytest.raises(ValueError, match=r"`batch_size` needs .* the kernel looks at the values of its arguments"):
        NumPyroImpactRegressor(counting, inference=SVI(batch_size=10)).fit(X, Y, group=GROUP)


def test_values_that_all_rows_share_leave_rows_apart():
    draws = {"level": RNG.normal(size=(20, 3))}
    model = NumPyroImpactRegressor(counting_table, posterior=draws, dtype="float64")
    arguments = {"group": GROUP, "table": np.array([1.0, 3.0])}
    with pytest.warns(ConcreteKernelWarning, match=r"needs the values of \['table'\].* for other values\. Numbers"):
        model.fit(X, Y, **arguments)
    assert model.kernel_spec_.rows_mix is None
    with pytest.warns(ConcreteKernelWarning):
        predicted = model.predict(X, **arguments)
    np.testing.assert_allclose(predicted, draws["level"].mean(0)[GROUP] + np.log(X[:, 0]))


def test_fresh_draws_see_the_values_of_the_fit(fitted):
    """Chains and weighted draws go on with the values that the kernel saw, and not with others of their shapes."""
    mean, std = of_posterior(WEIGHT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConcreteKernelWarning)
        inference = MCMC(num_warmup=300, num_samples=300, num_chains=2)
        model = NumPyroImpactRegressor(counting, inference=inference, dtype="float64", random_state=0)
        model.fit(X, Y, group=GROUP, sample_weight=WEIGHT)
    for each in (model, fitted):
        level = each.sample_posterior(300)["posterior"]["level"].to_numpy().reshape(-1, 3)
        assert (np.abs(level.mean(0) - mean) < 0.3 * std).all()
