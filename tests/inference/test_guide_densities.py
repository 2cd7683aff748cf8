"""Densities of guides, by which their draws are compared with the posterior."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from skaimz import NumPyroImpactRegressor
from skaimz.inference import SVI

pytestmark = pytest.mark.usefixtures("quick_compilation")


def means(X, y=None):
    first = numpyro.sample("first", dist.Normal(0.0, 1.0))
    others = numpyro.sample("others", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X[:, 0] * first + X[:, 1:] @ others, 1.0), obs=y)


def test_diagonal_guide_of_an_uncorrelated_posterior():
    """The guide has the posterior's own form, so that the importance ratios of its draws are nearly the same."""
    X = np.repeat(np.eye(3), 20, axis=0)
    y = np.random.default_rng(0).normal(size=60)
    settings = SVI("auto_diagonal_normal", num_steps=1000, num_samples=400)
    model = NumPyroImpactRegressor(means, inference=settings, random_state=0).fit(X, y)
    assert model.fit_result_.diagnostics["k_hat"] < 0.4
