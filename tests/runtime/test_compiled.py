"""Compiled programs return the same numbers as functions that are not compiled."""

import jax
import jaxlib
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import numpy as jnp
from scipy import stats

from skaimz import NumPyroImpactRegressor
from skaimz.runtime import compiled


def test_sums_of_two_sums_are_those_of_their_rows():
    # For more than 32768 numbers, jaxlib 0.10.2 returns the sums of earlier rows for later ones.
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 200, 3)).astype(np.float32)
    factors = rng.normal(size=500).astype(np.float32)

    def function(factor):
        product = x * factor
        return (y * product).sum(-1) + (product * product).sum(-1)

    found = compiled(lambda factors: jax.vmap(function)(factors))(factors)
    expected = [function(factor) for factor in factors.astype(np.float64)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def shares(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Dirichlet(jnp.exp(slope * X)), obs=y)


def test_densities_of_many_draws_are_those_of_scipy():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3)).astype(np.float32)
    y = rng.dirichlet(np.ones(3), size=40).astype(np.float32)
    slope = rng.normal(size=400).astype(np.float32)
    model = NumPyroImpactRegressor(shares, posterior={"slope": slope}, random_state=0)
    found = model.log_likelihood(X, y)["log_likelihood"]["y"].to_numpy()[0]
    alpha = np.exp(slope[:, None, None].astype(np.float64) * X)
    expected = [[stats.dirichlet(a).logpdf(of / of.sum()) for a, of in zip(rows, y, strict=True)] for rows in alpha]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_only_the_version_that_is_wrong_is_told(monkeypatch):
    given = []
    monkeypatch.setattr(jax, "jit", lambda function, *, compiler_options: given.append(compiler_options))
    for version in ("0.10.1", "0.10.2", "0.11.0"):
        monkeypatch.setattr(jaxlib, "__version__", version)
        compiled(jnp.sum)
    assert given == [None, {"xla_cpu_experimental_ynn_fusion_type": ""}, None]
