"""NumPy arrays that kernels hold, in both precisions.

JAX (0.10.2, for one) notes what it has made of a NumPy array by the array alone, not by the precision of the time. A
kernel that holds one is traced in both here: fits of float32 rows look at curvatures in double precision. The second
trace would find the array in the precision of the first, and fail, or go on with numbers of the wrong type.
"""

import contextlib
import weakref
from typing import Any

import jax
import numpy as np

__all__: list[str] = []

_typed: weakref.WeakValueDictionary[tuple[int, Any], Any] = weakref.WeakValueDictionary()


def _mend() -> None:
    """Let JAX look at the precision, where it does not."""
    from jax._src import dtypes, literals

    array = np.zeros(1)
    with jax.enable_x64(True):
        held = dtypes.canonicalize_value(array)
    with jax.enable_x64(False):
        mixes = dtypes.canonicalize_value(array).dtype == held.dtype

    def typed(array: np.ndarray) -> Any:
        dtype = jax.dtypes.canonicalize_dtype(array.dtype)
        found = _typed.get((id(array), dtype))
        if found is None or found.base is not array:
            found = literals.TypedNdArray(np.asarray(array, dtype))
            _typed[id(array), dtype] = found
        return found

    if mixes:
        dtypes.register_canonicalize_value_handler(np.ndarray, typed)


# The names are JAX's own affair, and other versions may have others.
with contextlib.suppress(ImportError, AttributeError, TypeError):
    _mend()
