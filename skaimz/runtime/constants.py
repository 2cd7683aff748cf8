"""Conversion of NumPy arrays that are constants of a kernel, in single and in double precision.

JAX converts a NumPy array that a traced function uses, and caches the result. In some versions, such as 0.10.2, the key
of the cache is the array alone, although the result depends on the precision that is enabled. Fits trace the same
kernel in both precisions, because curvatures are computed in double precision for float32 rows as well. The second
trace would then get the array in the precision of the first, and would fail or compute in the wrong precision.

On import, this module tests whether JAX has the error. Only then, it replaces JAX's conversion by one whose cache also
depends on the precision. This changes JAX for the whole process, and uses functions of JAX that are not public. There
is no narrower place to do it: the arrays may be anywhere, such as in closures, in functions that a kernel calls, in a
guide, in a sampler's initial values or in NumPyro itself, and only JAX sees all of them.
"""

import contextlib
import weakref
from typing import Any

import jax
import numpy as np

__all__: list[str] = []

_converted: weakref.WeakValueDictionary[tuple[int, Any], Any] = weakref.WeakValueDictionary()


def _correct_cache() -> None:
    """Make JAX's conversion of NumPy arrays depend on the precision, if it does not."""
    from jax._src import dtypes, literals

    array = np.zeros(1)
    with jax.enable_x64(True):
        double = dtypes.canonicalize_value(array)
    with jax.enable_x64(False):
        ignores_precision = dtypes.canonicalize_value(array).dtype == double.dtype

    def convert(array: np.ndarray) -> Any:
        dtype = jax.dtypes.canonicalize_dtype(array.dtype)
        typed = _converted.get((id(array), dtype))
        # A new array may have the identity of one that was deleted.
        if typed is None or typed.base is not array:
            typed = literals.TypedNdArray(np.asarray(array, dtype))
            _converted[id(array), dtype] = typed
        return typed

    if ignores_precision:
        dtypes.register_canonicalize_value_handler(np.ndarray, convert)


# Versions of JAX without these functions are left as they are.
with contextlib.suppress(ImportError, AttributeError, TypeError):
    _correct_cache()
