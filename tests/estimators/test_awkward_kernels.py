"""Kernels that are easily answered wrongly, and the right answers."""

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro import handlers

from skaimz import NumPyroImpactRegressor

DRAWS = {"slope": np.random.default_rng(0).normal(1.0, 0.3, size=800)}
X = np.random.default_rng(1).normal(size=(5, 2))


def plain(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * X[:, 0], 0.5), obs=y)


def with_hidden_level(X, y=None):
    with handlers.block(hide=["level"]):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(level + slope * X[:, 0], 0.5), obs=y)


def with_dropout(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    key = numpyro.prng_key()
    kept = 1.0 if key is None else 2.0 * jax.random.bernoulli(key, 0.5)
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * kept * X[:, 0], 0.5), obs=y)


def of_angles(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.VonMises(slope * X[:, 0], 2.0), obs=y)


def made(kernel, **settings):
    return NumPyroImpactRegressor(kernel, posterior=DRAWS, random_state=0, **settings)


def test_what_a_kernel_draws_unseen_is_averaged_over():
    for kernel, variance in ((with_hidden_level, 1.0), (with_dropout, (DRAWS["slope"] ** 2).mean() * X[:, 0] ** 2)):
        model = made(kernel)
        mean, std = model.predict(X, return_std=True)
        exact = DRAWS["slope"].mean() * X[:, 0]
        error = np.sqrt(variance / 800)
        assert (np.abs(mean - exact) < 4 * error).all()
        np.testing.assert_allclose(model.predict(X), mean, rtol=1e-6)
        np.testing.assert_allclose(std**2, 0.25 + DRAWS["slope"].var() * X[:, 0] ** 2 + variance, rtol=0.2)
        # All rows see the same random numbers.
        np.testing.assert_allclose(model.predict(X[2:3]), mean[2:3], rtol=1e-6)


def test_angles_are_numbers():
    model = made(of_angles)
    mean, std = model.predict(X, return_std=True)
    drawn = model.sample_y(X, n_samples=800)
    np.testing.assert_allclose(mean, drawn.mean(axis=1), atol=4 * 1.5 * 1.0 / np.sqrt(800))
    np.testing.assert_allclose(std, drawn.std(axis=1), rtol=0.15)
