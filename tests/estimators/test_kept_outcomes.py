"""Outcomes that a kernel masks itself, and outcomes that are intervals."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy.stats import norm

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.exceptions import OutputWarning

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 1))
Y = 1.5 * X + RNG.normal(size=(40, 2))
HOLES = np.where(RNG.random((40, 2)) < 0.2, np.nan, Y)


def masking(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    output = dist.Normal(slope * X, 1.0).expand([X.shape[0], 2])
    numpyro.sample("y", output if y is None else output.mask(~jnp.isnan(y)), obs=y)


def filling(X, y=None):
    """The same with a number in place of the missing ones, as NumPyro needs it for gradients of other distributions."""
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    output = dist.Normal(slope * X, 1.0).expand([X.shape[0], 2])
    if y is None:
        numpyro.sample("y", output)
    else:
        numpyro.sample("y", output.mask(jnp.isfinite(y)), obs=jnp.where(jnp.isfinite(y), y, 0.0))


@pytest.mark.parametrize("kernel", [masking, filling])
def test_the_kernel_masks_missing_outcomes(kernel):
    model = NumPyroImpactRegressor(kernel, missing_outcomes="keep", random_state=0).fit(X, HOLES)
    seen = ~np.isnan(HOLES)
    precision = (X**2 * seen).sum() + 1
    slope = model.posterior_["slope"][0]
    assert slope.mean() == pytest.approx((X * np.where(seen, HOLES, 0.0)).sum() / precision, abs=0.01)
    assert slope.std() == pytest.approx(precision**-0.5, rel=0.1)
    with pytest.warns(OutputWarning, match="count as log 1 = 0"):
        densities = model.log_likelihood(X, HOLES)["log_likelihood"]["y"].to_numpy()[0, 0]
    expected = np.where(seen, norm.logpdf(np.where(seen, HOLES, 0.0), slope[0] * X), 0.0)
    np.testing.assert_allclose(densities, expected, rtol=1e-4, atol=1e-6)
    assert model.score(X, HOLES) > 0.3


def test_refusals():
    with pytest.raises(ValueError, match="y contains NaN"):
        NumPyroImpactRegressor(masking).fit(X, HOLES)
    with pytest.raises(ValueError, match="or set `missing_outcomes='keep'`"):
        NumPyroImpactRegressor(masking, missing_outcomes="ignore").fit(X, HOLES)
    for estimator in (NumPyroImpactRegressor(), NumPyroImpactClassifier(masking)):
        with pytest.raises(ValueError, match="needs a regressor with a `kernel` that masks NaN"):
            estimator.set_params(missing_outcomes="keep").fit(X, Y[:, 0] > 0)


def censored(X, bounds=None):
    mean = numpyro.sample("mean", dist.Normal(0.0, 10.0))
    with numpyro.plate("rows", X.shape[0]):
        within = dist.IntervalCensoredDistribution(dist.LogNormal(mean, 1.0), X[:, 0] < 0, X[:, 0] > 0)
        numpyro.sample("y", within, obs=bounds)


def test_outcomes_that_are_intervals():
    """A value is seen, known to be below one, or known to be above two; draws are values."""
    side = np.array([[0.0], [-1.0], [1.0]])
    bounds = np.array([[0.5, 0.5], [0.0, 1.0], [2.0, 2.0]])
    model = NumPyroImpactRegressor(censored, param_output="bounds", posterior={"mean": np.array([0.3, 0.3])})
    model.fit(side, bounds)
    densities = model.log_likelihood(side, bounds)["log_likelihood"]["y"].to_numpy()[0, 0]
    expected = [norm.logpdf(np.log(0.5), 0.3) - np.log(0.5), norm.logcdf(-0.3), norm.logsf(np.log(2.0), 0.3)]
    np.testing.assert_allclose(densities, expected, rtol=1e-4)
    np.testing.assert_allclose(model.predict(side), np.exp(0.3 + 0.5), rtol=1e-5)
    assert model.sample_y(side, n_samples=5).shape == (3, 5)
    unfitted = NumPyroImpactRegressor(censored, param_output="bounds", posterior={"mean": np.array([0.3, 0.3])})
    for ask in (unfitted.log_predictive_density, unfitted.fit):
        with pytest.raises(ValueError, match="observes the lower and the upper bound of each value"):
            ask(side, bounds[:, 0])
