"""A kernel with one step fewer than it has rows: draws of a fit are not taken for those of other rows."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from skaimz import NumPyroImpactRegressor

pytestmark = pytest.mark.filterwarnings("ignore:The kernel runs on all rows at once:skaimz.exceptions.SpeedWarning")

DAYS = np.arange(6.0)[:, None]
WALK = np.array([10.0, 20.0, 30.0, 40.0, 50.0])


def walk(X, y=None):
    steps = numpyro.sample("walk", dist.GaussianRandomWalk(scale=1.0, num_steps=X.shape[0] - 1))
    numpyro.sample("y", dist.Normal(jnp.concatenate([jnp.zeros(1), steps]), 1.0), obs=y)


def test_fewer_rows_than_the_draws_are_of():
    model = NumPyroImpactRegressor(walk, posterior={"walk": np.tile(WALK, (2, 1))}).fit(DAYS, np.zeros(6))
    np.testing.assert_allclose(model.predict(DAYS), [0.0, *WALK])
    for rows in (DAYS[3:], DAYS[:3]):
        with pytest.raises(
            ValueError, match=r"'walk' has draws of the shape \(5,\).* the shape \(2,\): it is not known"
        ):
            model.predict(rows)
    with pytest.raises(ValueError, match=r"the shape \(7,\): what was not in the fit is not known"):
        model.predict(np.zeros((8, 1)))
