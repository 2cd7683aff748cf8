"""Numbers that ready NumPyro objects hold, in the precision of a fit: they were made before it was known."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import initialization

__all__ = ["in_precision", "start_in_precision"]


def in_precision(held: Any) -> Any:
    """Return what an object holds with arrays of floating point numbers in the precision of the time."""
    if isinstance(held, Mapping):
        return {name: in_precision(value) for name, value in held.items()}
    if isinstance(held, np.ndarray | np.floating | jax.Array) and jnp.issubdtype(held.dtype, jnp.floating):
        return jnp.asarray(held, jnp.result_type(float))
    return held


def start_in_precision(strategy: Any) -> Any:
    """Return a strategy for first values, such as ``numpyro.infer.init_to_value``, of the precision of the time."""
    bound = strategy if isinstance(strategy, functools.partial) else functools.partial(strategy)
    if bound.func is initialization.init_to_value:
        values = bound.keywords.get("values", bound.args[1] if len(bound.args) > 1 else {})
        # NumPyro looks for these by name.
        return initialization.init_to_value(values={n: in_precision(_as_array(value)) for n, value in values.items()})
    # NumPyro's others draw in the precision of the time, and are known to it by their function.
    return strategy if vars(initialization).get(bound.func.__name__) is bound.func else functools.partial(_start, bound)


def _start(strategy: Callable, site: Any = None) -> Any:
    return in_precision(strategy(site))


def _as_array(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, list | tuple) else value
