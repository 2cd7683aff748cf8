"""What calibration shows of inference by sampling and by variation."""

import numpy as np
import pytest
import zoo

from skaimz import NumPyroImpactRegressor
from skaimz.inference import MCMC, SVI
from skaimz.simulation_calibration import simulation_based_calibration

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning")]

# One chain: chains side by side wait for the longest trajectory among them.
CHAIN = MCMC(num_warmup=200, num_samples=200, num_chains=1)


@pytest.mark.parametrize("kernel", [None, zoo.by_school], ids=["default", "hierarchical"])
def test_ranks_under_mcmc_are_uniform(kernel):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(10, 1)) if kernel is None else np.eye(4)[np.repeat(np.arange(4), 3)]
    model = NumPyroImpactRegressor(kernel, inference=CHAIN, random_state=0)
    if kernel is None:
        model.fit(rows, rows[:, 0] + rng.normal(size=10))
    result = simulation_based_calibration(model, rows, num_replications=64, num_draws=24)
    # Chains are chaotic, and may be others on another processor: all quantities together have one chance in a hundred.
    assert (result.p_values() > 0.01 / len(result.ranks)).all(), result


@pytest.mark.parametrize(("guide", "exact"), [("auto_normal", False), ("auto_multivariate_normal", True)])
def test_a_mean_field_is_too_narrow_where_latents_are_correlated(guide, exact):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(10, 1)) + 0.2 * rng.normal(size=(10, 2))
    settings = SVI(guide=guide, num_steps=1000, num_samples=99)
    model = NumPyroImpactRegressor(zoo.conjugate, inference=settings, random_state=0)
    result = simulation_based_calibration(model, rows, num_replications=100)
    table = result.summary().loc[["coef[0]", "coef[1]"]]
    if exact:
        assert (table["p_value"] > 0.01).all(), result
        return
    assert (table["p_value"] < 1e-6).all(), result
    assert (table["spread"] > 1.25).all(), result
    for name in table.index:
        # A fifth of uniform ranks would lie in the outer fifth of the places.
        outer = (result.ranks[name] < 10) | (result.ranks[name] >= 90)
        assert outer.mean() > 0.4, result
