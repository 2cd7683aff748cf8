"""Numbers in ready NumPyro objects, which were made before the precision of the fit was known."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import initialization

__all__ = ["in_precision", "start_in_precision"]


def in_precision(value: Any) -> Any:
    """Return a value with its floating-point arrays in JAX's current precision."""
    if isinstance(value, Mapping):
        return {name: in_precision(each) for name, each in value.items()}
    if isinstance(value, np.ndarray | np.floating | jax.Array) and jnp.issubdtype(value.dtype, jnp.floating):
        return jnp.asarray(value, jnp.result_type(float))
    return value


def start_in_precision(strategy: Any) -> Any:
    """Return a strategy for first values, such as ``numpyro.infer.init_to_value``, in JAX's current precision."""
    bound = strategy if isinstance(strategy, functools.partial) else functools.partial(strategy)
    if bound.func is initialization.init_to_value:
        values = bound.keywords.get("values", bound.args[1] if len(bound.args) > 1 else {})
        # NumPyro looks for these by name.
        return initialization.init_to_value(values={n: in_precision(_as_array(value)) for n, value in values.items()})
    # NumPyro's other strategies draw in the current precision. NumPyro recognises them by their function.
    return strategy if vars(initialization).get(bound.func.__name__) is bound.func else functools.partial(_start, bound)


def _start(strategy: Callable, site: Any = None) -> Any:
    return in_precision(strategy(site))


def _as_array(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, list | tuple) else value
