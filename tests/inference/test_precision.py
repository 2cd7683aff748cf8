"""Numbers that kernels and recipes hold, beside rows of either precision."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import NUTS, autoguide
from numpyro.infer.initialization import init_to_value

from skaimz import NumPyroImpactRegressor
from skaimz.inference import MCMC, SVI

pytestmark = pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning")

rng = np.random.default_rng(0)
X = rng.normal(size=(30, 2))
Y = X @ [1.0, -1.0] + rng.normal(scale=0.5, size=30)
SCALES, ORDER = np.array([1.0, 2.0]), np.array([1, 0])
START = {"coef": [0.5, -0.25], "sigma": 2.0}


def holding(X, y=None):
    """NumPy arrays in double precision are constants of the kernel."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ (coef * SCALES)[ORDER], 0.5), obs=y)


def sloped(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ coef, sigma), obs=y)


@pytest.mark.parametrize("inference", [SVI(num_steps=500), "auto"], ids=["svi", "auto"])
def test_arrays_that_a_kernel_holds_serve_both_precisions(inference):
    # Normal throughout: the posterior precision is that of the prior and of the data together.
    design = (X[:, ORDER] * SCALES).astype(np.float64)
    exact = np.linalg.solve(np.eye(2) + design.T @ design / 0.25, design.T @ Y / 0.25)
    for dtype in (np.float32, np.float64, np.float32):
        rows = X.astype(dtype)
        model = NumPyroImpactRegressor(holding, inference=inference, random_state=0).fit(rows, Y.astype(dtype))
        predicted = model.predict(rows)
        assert predicted.dtype == model.posterior_["coef"].dtype == dtype
        np.testing.assert_allclose(predicted, design @ exact, atol=0.15)


def recipe(kind, values):
    strategy = init_to_value(values=values)
    if kind == "sampler":
        return MCMC(NUTS(sloped, init_strategy=strategy), num_warmup=5, num_samples=5, num_chains=1)
    if kind == "options":
        mass = jnp.ones(3, jnp.float32) if values["coef"].dtype == np.float32 else np.ones(3)
        options = {"init_strategy": lambda site=None: strategy(site), "inverse_mass_matrix": mass}
        return MCMC("nuts", sampler_options=options, num_warmup=5, num_samples=5, num_chains=1)
    optim = numpyro.optim.SGD(0.0)
    return SVI(autoguide.AutoDelta(sloped, init_loc_fn=strategy), optim, num_steps=2, num_samples=2)


@pytest.mark.parametrize(("kind", "dtype"), [
    ("sampler", np.float64), ("options", np.float32), ("options", np.float64), ("guide", np.float64),
])  # fmt: skip
def test_first_values_of_any_precision_start_fits_of_any(kind, dtype):
    rows, y = X.astype(dtype), Y.astype(dtype)
    found = []
    for own in (np.float32, np.float64, jnp.float32):
        values = {name: (jnp if own is jnp.float32 else np).asarray(value, own) for name, value in START.items()}
        model = NumPyroImpactRegressor(sloped, inference=recipe(kind, values), random_state=0).fit(rows, y)
        assert model.posterior_["coef"].dtype == dtype
        found.append(model.posterior_["coef"])
    for draws in found[1:]:
        np.testing.assert_array_equal(draws, found[0])
    if kind == "guide":
        np.testing.assert_allclose(found[0][0, 0], START["coef"], rtol=1e-6)
