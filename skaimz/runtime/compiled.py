"""Compilation of programs whose numbers can be relied on."""

from collections.abc import Callable
from typing import Any

import jax
import jaxlib

__all__ = ["compiled"]

# In jaxlib 0.10.2 some sums over the last axis of more than 32768 numbers in single precision, of which two are added,
# are those of other rows (github.com/jax-ml/jax/issues/39103); 0.10.1 and 0.11.0 are right. The fault lies in YNNPACK,
# a library of reductions, without which XLA does them itself. That costs a chain no measurable time.
WRONG_VERSION = "0.10.2"
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
    options = WITHOUT_YNNPACK if jaxlib.__version__.startswith(WRONG_VERSION) else None
    return jax.jit(function, compiler_options=options, **settings)
