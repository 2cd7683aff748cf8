"""An X that is a mapping of names to arrays, for a kernel that takes its input as a dict.

Its first array is the input, and the others are further arguments of the kernel.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from skaimz.estimators._arguments import check_names_of_arguments
from skaimz.estimators._model import Model
from skaimz.kernels import flattened, within

__all__ = ["without_entries"]


def without_entries(
    model: Model, X: Any, arrays: Mapping[str, Any], *, reset: bool = False
) -> tuple[Model, Any, Mapping[str, Any]]:
    """Return a model whose input is one array, that array, and all other arguments.

    Parameters
    ----------
    model : Model
    X : array-like, or mapping of str to array
    arrays : dict
        The kernel's further arguments, without mappings.
    reset : bool, default=False
        Whether X is that of a fit that begins anew, and may be of another kind than before.
    """
    param_input = model.owner.param_input
    if reset:
        model = replace(model, names=(param_input, model.names[1]), arguments={})
    if not isinstance(X, Mapping) or hasattr(X, "shape"):  # some sparse arrays are mappings of places to numbers
        if model.names[0] != param_input and not any(within(name, {param_input}) for name in arrays):
            raise ValueError(f"X must be a mapping with the entry {model.names[0]!r}, as in `fit`, got {type(X)}.")
        return model, X, arrays
    if model.owner.kernel is None:
        raise ValueError("X is a mapping, but the default kernel takes a table: pass an array or a data frame.")
    check_names_of_arguments(arrays, param_input, model.names[1])
    entries = flattened({param_input: X})
    name = model.names[0]
    if name == param_input:
        found = next((name for name, value in entries.items() if np.ndim(value)), None)
        if "rows" in model.arguments:
            raise ValueError(f"X is a mapping with the entries {sorted(X)}, but was an array in `fit`: pass an array.")
        if found is None:
            raise ValueError(f"X is a mapping with the entries {sorted(X)}, none of which is an array.")
        name = found
    if name not in entries:
        raise ValueError(f"X must have the entry {name!r}, as in `fit`, but has {sorted(entries)}.")
    first = entries.pop(name)
    return replace(model, names=(name, model.names[1])), first, {**entries, **arrays}
