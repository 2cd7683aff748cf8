"""NumPyro's Stein variational inference."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.einstein import RBFKernel
from numpyro.contrib.einstein import SteinVI as NumPyroSteinVI
from numpyro.infer.autoguide import AutoDelta, AutoNormal

from skaimz import NumPyroImpactRegressor
from skaimz.inference import SteinVI

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 2))
Y = X @ [1.0, -1.0] + 0.5 * RNG.normal(size=50)


def linear(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ coef, 0.5), obs=y)


COVARIANCE = np.linalg.inv(X.T @ X / 0.25 + np.eye(2))
MEAN = COVARIANCE @ X.T @ Y / 0.25


def off(model):
    """Return how far the mean of the draws is from the posterior's, in standard deviations."""
    draws = model.posterior_["coef"][0]
    return np.abs(draws.mean(axis=0) - MEAN) / np.sqrt(np.diag(COVARIANCE))


def test_a_ready_object_is_read():
    ready = NumPyroSteinVI(linear, AutoDelta(linear), numpyro.optim.Adagrad(0.1), RBFKernel(), num_stein_particles=8)
    model = NumPyroImpactRegressor(linear, inference=ready, random_state=0).fit(X, Y)
    assert model.posterior_["coef"].shape == (1, 8, 2)
    assert len(np.unique(model.posterior_["coef"][0, :, 0])) == 8
    assert (off(model) < 0.3).all()


def test_a_mixture_of_normal_particles():
    inference = SteinVI(num_particles=4, num_samples=400, num_steps=1000)
    model = NumPyroImpactRegressor(linear, inference=inference, random_state=0).fit(X, Y)
    assert model.posterior_["coef"].shape == (1, 400, 2)
    assert (off(model) < 0.3).all()
    fresh = model.sample_posterior(200)["posterior"]["coef"].to_numpy()
    assert fresh.shape == (1, 200, 2)
    assert not np.isin(fresh, model.posterior_["coef"]).any()


def test_refusals():
    def ready(guide, model=linear, **more):
        return NumPyroSteinVI(model, guide, numpyro.optim.Adagrad(0.1), RBFKernel(), **more)

    def fitted_by(inference):
        return NumPyroImpactRegressor(linear, inference=inference).fit(X, Y)

    with pytest.raises(ValueError, match="its particles must be of one of the classes"):
        fitted_by(ready(lambda X, y=None: None))
    with pytest.raises(ValueError, match="non_mixture_guide_params_fn"):
        fitted_by(ready(AutoNormal(linear), non_mixture_guide_params_fn=lambda name: True))
    with pytest.raises(ValueError, match="which is not the estimator's kernel"):
        fitted_by(ready(AutoNormal(linear), model=lambda X, y=None: None))
    with pytest.raises(ValueError, match="`guide` must be one of"):
        fitted_by(SteinVI("auto_iaf"))
