"""Compilation of programs, without an optimisation of XLA that gives wrong sums."""

from collections.abc import Callable
from typing import Any

import jax
import jaxlib

__all__ = ["compiled"]

# jaxlib 0.10.2 computes some sums wrongly on CPUs: if a program adds two sums in single precision over a last axis of
# more than 32768 numbers, a row may get the sum of another row (github.com/jax-ml/jax/issues/39103). Versions 0.10.1
# and 0.11.0 are correct. The error is in YNNPACK, a library that XLA uses for reductions. Without it, XLA compiles
# reductions itself, which makes no measurable difference to the time of a chain.
WRONG_VERSION = "0.10.2"
WITHOUT_YNNPACK = {"xla_cpu_experimental_ynn_fusion_type": ""}


def compiled(function: Callable, **settings: Any) -> Callable:
    """Compile a function as ``jax.jit`` does, but without reductions by YNNPACK if its version is wrong.

    Parameters
    ----------
    function : callable
    **settings : object
        Arguments of ``jax.jit``.

    Returns
    -------
    callable
        The compiled function. Other compiled functions must not call it, since JAX accepts compiler options for the
        outermost function only.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from skaimz.runtime import compiled
    >>> float(compiled(lambda x: (x * x).sum())(jnp.array([1.0, 2.0])))
    5.0
    """
    options = WITHOUT_YNNPACK if jaxlib.__version__.startswith(WRONG_VERSION) else None
    return jax.jit(function, compiler_options=options, **settings)
