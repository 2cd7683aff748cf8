"""Censored outcomes whose distribution has the same parameters for all rows."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from skaimz import NumPyroImpactRegressor

DRAWS = {"shape": np.array([2.0, 3.0]), "rate": np.array([1.0, 2.0])}
X = np.array([[0.0], [1.0], [1.0]])


def of_gamma(X, y=None):
    shape = numpyro.sample("shape", dist.HalfNormal(3.0))
    rate = numpyro.sample("rate", dist.HalfNormal(3.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.RightCensoredDistribution(dist.Gamma(shape, rate), X[:, 0] > 0), obs=y)


@pytest.mark.usefixtures("quick_compilation")
def test_moments_are_those_of_the_uncensored_distribution():
    model = NumPyroImpactRegressor(of_gamma, posterior=DRAWS).fit(X, np.array([1.0, 2.0, 2.0]))
    means, variances = DRAWS["shape"] / DRAWS["rate"], DRAWS["shape"] / DRAWS["rate"] ** 2
    mean, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(mean, means.mean(), rtol=1e-6)
    np.testing.assert_allclose(std**2, variances.mean() + means.var(), rtol=1e-6)
