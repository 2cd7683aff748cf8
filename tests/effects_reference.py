"""Rows, posterior draws and averages that the tests of effects share."""

import numpy as np

from skaimz import NumPyroImpactRegressor

# More rows than a tile, and not a multiple of its length.
N_ROWS, N_CHAINS, N_DRAWS = 1300, 2, 20
_rng = np.random.default_rng(0)
X = _rng.normal(size=(N_ROWS, 2))
WEIGHTS = _rng.uniform(size=N_ROWS)


def normal(*shape):
    return _rng.normal(scale=0.5, size=(N_DRAWS, *shape))


COEF = normal(2)


def model_of(kernel, draws=None, *, fitted=True, **settings):
    """Return an estimator with posterior draws in two chains: of ``coef`` unless others are given."""
    model = NumPyroImpactRegressor(kernel, random_state=3, **settings)
    return model.set_posterior_sample({"coef": COEF} if draws is None else draws, N_CHAINS) if fitted else model


def averaged(values, weights=None):
    """Average ``(n_draws, n_rows)`` over rows."""
    return np.average(values, axis=1, weights=weights)


def effect_of(effects, name="new"):
    """Return the draws of an effect, of all chains."""
    effect = effects[name]["effect"].to_numpy()
    return effect.reshape(-1, *effect.shape[2:])
