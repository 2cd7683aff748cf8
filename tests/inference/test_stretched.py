"""Posteriors that stretch in one direction across their coordinates, where no curvature tells of it."""

import numpy as np
import numpyro
import numpyro.distributions as dist

from skaimz import NumPyroImpactRegressor
from skaimz.inference import Auto

Y = np.array([20.0, 40.0, 30.0])


def together(X, y=None):
    """Sites near a centre, which is little known. Their density has an edge at its mode, and no curvature."""
    centre = numpyro.sample("centre", dist.Normal(0.0, 50.0))
    with numpyro.plate("places", 24):
        numpyro.sample("near", dist.Laplace(centre, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(centre, 30.0), obs=y)


def test_chains_move_in_the_units_of_their_draws():
    model = NumPyroImpactRegressor(together, inference=Auto(num_samples=400), random_state=0).fit(np.zeros((3, 1)), Y)
    rungs = [each["rung"] for each in model.fit_result_.diagnostics["rungs"]]
    assert rungs == ["mode", "nuts", "adapted nuts"]
    # The centre is that of a normal prior and three normal outcomes; the distances from it are those of the prior.
    precision = 1 / 50.0**2 + 3 / 30.0**2
    centre, near = model.posterior_["centre"], model.posterior_["near"]
    sd = 1 / np.sqrt(precision)
    assert abs(centre.mean() - Y.sum() / 30.0**2 / precision) < 0.1 * sd
    np.testing.assert_allclose(centre.std(), sd, rtol=0.1)
    np.testing.assert_allclose((near - centre[..., None]).std(), np.sqrt(2.0), rtol=0.05)
