"""What an output observes: the outcome as it is given, or something computed from it."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from skaimz.kernels import Inputs, trace_kernel


def filled(y):
    return jnp.where(jnp.isfinite(y), y, 0.0)


AS_GIVEN = {
    "itself": lambda y, X: y,
    "in another type": lambda y, X: y.astype(jnp.float16),
    "filled where it is not finite": lambda y, X: filled(y),
    "filled where it is missing": lambda y, X: jnp.where(jnp.isnan(y), X[:, 0], y),
    "filled by JAX": lambda y, X: jnp.nan_to_num(y),
    "in a function": lambda y, X: jax.jit(filled)(y),
    "filled where an argument says so": lambda y, X: jnp.where(X[:, 0] > 0, y, 0.0),
    "by the numbers of rows": lambda y, X: y[jnp.arange(y.shape[0])],
    "in a loop": lambda y, X: jax.lax.scan(lambda carry, each: (carry + 1, each), 0, y)[1],
}
CHANGED = {
    "logarithms": lambda y, X: jnp.log(y),
    "bounded": lambda y, X: jnp.minimum(y, 3.0),
    "bounded by a choice": lambda y, X: jnp.where(y > 3.0, 3.0, y),
    "another order": lambda y, X: y[::-1],
    "another order by index": lambda y, X: y[jnp.argsort(X[:, 0])],
    "another order by take": lambda y, X: jnp.take(y, jnp.argsort(X[:, 0])),
    "which are known": lambda y, X: jnp.isfinite(y) * 1.0,
    "the one before": lambda y, X: jax.lax.scan(lambda before, each: (each, before), 0.0, y)[1],
    "filled by what follows from it": lambda y, X: jnp.where(jnp.isfinite(y), y, jnp.nanmean(y)),
}


@pytest.mark.parametrize("name", [*AS_GIVEN, *CHANGED])
def test_changes(name):
    change = (AS_GIVEN | CHANGED)[name]

    def kernel(X, y=None):
        slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(slope * X[:, 0], 1.0), obs=None if y is None else change(y, X))

    traced, _ = trace_kernel(kernel, Inputs({"X": np.ones((5, 1), np.float32)}, {}, ()), "X", "y")
    assert traced.spec.changes_outcome == (name in CHANGED)
