"""Compilation of programs whose numbers can be relied on."""

import functools
from collections.abc import Callable
from typing import Any

import jax

__all__ = ["compiled"]

# Reductions by YNNPACK, without which XLA does them itself. In jaxlib 0.10.2 some sums over the last axis of more than
# 32768 numbers, of which two are added up, are those of other rows (github.com/jax-ml/jax/issues/39103).
WITHOUT_YNNPACK = {"xla_cpu_experimental_ynn_fusion_type": ""}


def compiled(function: Callable, **settings: Any) -> Callable:
    """Compile a function as ``jax.jit`` does, without the reductions of XLA for CPUs that may be wrong.

    Parameters
    ----------
    function : callable
    **settings
        Of ``jax.jit``.

    Returns
    -------
    callable
        To be called outside of other compiled functions.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from skaimz.kernels import compiled
    >>> float(compiled(lambda x: (x * x).sum())(jnp.array([1.0, 2.0])))
    5.0
    """
    return jax.jit(function, compiler_options=_options(), **settings)


@functools.cache
def _options() -> dict[str, str] | None:
    try:
        jax.jit(lambda: 0, compiler_options=WITHOUT_YNNPACK).lower().compile()
    except jax.errors.JaxRuntimeError:
        # Other versions of XLA do not know the option.
        return None
    return WITHOUT_YNNPACK
