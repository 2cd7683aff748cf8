"""JAX's flags for debugging and strictness, under which NumPyro runs."""

import jax
import numpy as np
import pytest
import zoo

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


def answers():
    settings = SVI(num_steps=20, num_samples=10, batch_size=8)
    model = NumPyroImpactRegressor(zoo.conjugate, inference=settings, random_state=0).fit(X, Y)
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
    return answers()


@pytest.mark.parametrize("flag", FLAGS)
def test_answers_are_the_same(flag, expected):
    with FLAGS[flag]():
        found = answers()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, atol=1e-9, err_msg=name)
