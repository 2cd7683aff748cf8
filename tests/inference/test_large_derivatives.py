"""Weights above one, and repeated rows, in kernels whose derivatives come near the largest float."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import numpyro.infer
import pytest
from jax import numpy as jnp
from scipy import stats

from skaimz import NumPyroImpactRegressor
from skaimz.inference import MCMC, SVI


def sometimes_impossible(X, y=None):
    """Successes are impossible where x is zero, where NumPyro keeps the probability at the smallest float."""
    probability = numpyro.sample("probability", dist.Uniform(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(jnp.where(X[:, 0] > 0, probability, 0.0 * probability)), obs=y)


X = np.repeat([0.0, 1.0], [9, 30])[:, None]
Y = np.repeat([0.0, 1.0, 0.0], [9, 21, 9])
INFERENCES = [
    "auto",
    MCMC(numpyro.infer.NUTS(sometimes_impossible), num_warmup=300, num_samples=1000, num_chains=2),
    MCMC(num_warmup=300, num_samples=1000, num_chains=2),
    SVI(guide="auto_normal", num_steps=4000, num_samples=2000),
]


@pytest.mark.parametrize("inference", INFERENCES, ids=["auto", "ready", "mcmc", "svi"])
@pytest.mark.parametrize("weight", [None, 3.0])
def test_repeated_and_weighted_rows_give_the_beta_posterior(inference, weight):
    model = NumPyroImpactRegressor(sometimes_impossible, inference=inference, random_state=0)
    model.fit(X, Y, sample_weight=None if weight is None else np.full(len(Y), weight))
    draws = model.posterior_["probability"]
    exact = stats.beta(1 + 21 * (weight or 1), 1 + 9 * (weight or 1))
    np.testing.assert_allclose(draws.mean(), exact.mean(), atol=0.15 * exact.std())
    np.testing.assert_allclose(draws.std(), exact.std(), rtol=0.1)
