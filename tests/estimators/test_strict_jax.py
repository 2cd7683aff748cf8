"""JAX's flags for debugging and strictness, under which NumPyro runs."""

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from skaimz import NumPyroImpactRegressor
from skaimz.inference import SVI

pytestmark = pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning")

rng = np.random.default_rng(0)
X = rng.normal(size=(20, 2))
Y = X @ [1.0, -1.0] + rng.normal(scale=0.5, size=20)
FLAGS = {
    "nans": lambda: jax.debug_nans(True),
    "ranks": lambda: jax.numpy_rank_promotion("raise"),
    "types": lambda: jax.numpy_dtype_promotion("strict"),
    "leaks": jax.checking_leaks,
}


def answers(flag):
    def kernel(X, y=None):
        coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
        # Another kernel for each flag, so that it is traced and compiled under it.
        with numpyro.plate(f"rows of {flag}", X.shape[0]):
            numpyro.sample("y", dist.Normal(X @ coef, 0.5), obs=y)

    settings = SVI(num_steps=20, num_samples=10, batch_size=8)
    model = NumPyroImpactRegressor(kernel, inference=settings, random_state=0).fit(X, Y)
    return {
        "mean": model.predict(X, return_std=True),
        "quantiles": model.predict_quantiles(X),
        "density": model.log_predictive_density(X, Y),
        "draws": model.sample_posterior_predictive_on_batch(X, return_datatree=False)["y"],
        "effect": model.estimate_effect(X, scenarios={"it": {"columns": {0: 1.0}}})["it"]["effect"].values,
        "slope": model.estimate_slope(X, 0)["0"]["effect"].values,
    }


@pytest.fixture(scope="module")
def expected():
    return answers(None)


@pytest.mark.parametrize("flag", FLAGS)
def test_answers_are_the_same(flag, expected):
    with FLAGS[flag]():
        found = answers(flag)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, atol=1e-9, err_msg=name)
