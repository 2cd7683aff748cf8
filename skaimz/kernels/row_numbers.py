"""Which values of a trace hold the number of each row, so that to index rows by them leaves each row where it is.

``with numpyro.plate("rows", len(X)) as chosen`` gives such numbers, by which a kernel indexes its rows: ``X[chosen]``.
"""

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from jax.extend.core import Jaxpr, Literal

__all__ = ["other_indices", "row_numbers"]

SAME_VALUES = frozenset("convert_element_type copy copy_p stop_gradient".split())
SAME_ORDER = frozenset("reshape squeeze expand_dims".split())


def row_numbers(jaxpr: Jaxpr, n_rows: int) -> dict[Any, int]:
    """Return the variables of a program whose value is the number of a row, and their row axes."""
    axes: dict[Any, int] = {}
    negative = set()
    for eqn in jaxpr.eqns:
        if not eqn.outvars:
            continue
        name, result, aval = eqn.primitive.name, eqn.outvars[0], cast(Any, eqn.outvars[0].aval)
        operands = [None if isinstance(operand, Literal) else operand for operand in eqn.invars]
        axis = axes.get(operands[0]) if operands else None
        if name == "iota" and eqn.params["shape"][eqn.params["dimension"]] == n_rows:
            axes[result] = eqn.params["dimension"]
        elif name == "lt" and axis is not None and _is_zero(eqn.invars[1]):
            negative.add(result)  # a number of a row never is
        elif name == "select_n" and operands[0] in negative and operands[1] in axes:
            axes[result] = axes[operands[1]]
        elif axis is None or not np.issubdtype(aval.dtype, np.integer) or aval.dtype.itemsize < 4:
            continue
        elif name in SAME_VALUES:
            axes[result] = axis
        elif name == "broadcast_in_dim":
            axes[result] = eqn.params["broadcast_dimensions"][axis]
        elif name in SAME_ORDER and not (name == "reshape" and eqn.params["dimensions"] is not None):
            before = math.prod(cast(Any, eqn.invars[0].aval).shape[:axis])
            sizes = aval.shape
            places = [k for k, size in enumerate(sizes) if size == n_rows and math.prod(sizes[:k]) == before]
            if places:
                axes[result] = places[0]
    return axes


def other_indices(jaxpr: Jaxpr, eqn: Any, rows: int | None, axes: Mapping[Any, int]) -> list[Any] | None:
    """Return what an operation indexes its first operand by, if it indexes the rows by their own numbers.

    The result are the indices of other axes, as in ``X[chosen, column]``. It is None for any other operation.

    Parameters
    ----------
    jaxpr : Jaxpr
        The program with the operation.
    eqn : JaxprEqn
    rows : int or None
        Row axis of the first operand.
    axes : dict
        As :func:`row_numbers` returns.
    """
    if eqn.primitive.name != "gather" or rows is None or isinstance(eqn.invars[1], Literal):
        return None
    numbers, indices = eqn.params["dimension_numbers"], eqn.invars[1]
    if rows not in numbers.start_index_map or rows not in numbers.collapsed_slice_dims or numbers.operand_batching_dims:
        return None
    columns, last = [indices], len(indices.aval.shape) - 1
    if len(numbers.start_index_map) > 1:
        stacked = next((other for other in jaxpr.eqns if indices in other.outvars), None)
        if stacked is None or stacked.primitive.name != "concatenate" or stacked.params["dimension"] != last:
            return None
        columns = list(stacked.invars)
    if len(columns) != len(numbers.start_index_map):
        return None
    own = columns.pop(numbers.start_index_map.index(rows))
    return columns if not isinstance(own, Literal) and axes.get(own, last) < last else None


def _is_zero(operand: Any) -> bool:
    return isinstance(operand, Literal) and np.ndim(operand.val) == 0 and operand.val == 0
