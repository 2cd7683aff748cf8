"""Kernels that look at the values of their arguments, which abstract arrays do not have.

Such a kernel counts groups by ``len(np.unique(group))``, calls functions of NumPy or SciPy, or branches on a sum. The
arguments that it looks at become constants of its programs.
"""

import functools
from collections.abc import Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from skaimz.kernels.abstract import AbstractCall
from skaimz.kernels.describe import describe, sites_if_run
from skaimz.kernels.fixed_rows import bound_to_rows
from skaimz.kernels.identity import ByValue
from skaimz.kernels.spec import Inputs, KernelSpec, TracedKernel

__all__ = ["needs_values", "refuse_values_of_outcome", "trace_concretely"]

# Descriptions are kept with the arguments that they were made for.
SPECS_KEPT = 8
SEES_ROWS = "the kernel looks at the values of its arguments"


def needs_values(error: Exception) -> bool:
    """Whether an error says that a kernel needs a value where there is an abstract array."""
    errors = jax.errors
    kinds = (
        errors.ConcretizationTypeError,
        errors.TracerArrayConversionError,
        errors.TracerIntegerConversionError,
        errors.NonConcreteBooleanIndexError,
    )
    return isinstance(error, kinds) or "concrete values" in str(error)


def trace_concretely(call: AbstractCall, inputs: Inputs, n_rows: tuple[int, int]) -> TracedKernel | None:
    """Describe a kernel that sees values of its arguments, as few as it needs; None if that does not help.

    Parameters
    ----------
    call : AbstractCall
        The kernel with all of its hyperparameters fixed.
    inputs : Inputs
        The arguments' values.
    n_rows : pair of int
        Numbers of rows to trace with if the kernel does not see the values of rows.
    """
    for concrete in _with_values(call, inputs):
        spec = _description(concrete, n_rows)
        if spec is not None:
            static = (*concrete.static, *concrete.values)
            return TracedKernel(call.kernel, static, spec, seen=tuple(name for name, _ in static[len(call.static) :]))
    return None


def refuse_values_of_outcome(call: AbstractCall, inputs: Inputs, error: Exception) -> None:
    """Refuse a kernel that needs the values of its outcome, in place of an error that mentions abstract arrays."""
    n_rows = len(inputs.rows[call.input])
    outcome = jax.ShapeDtypeStruct((n_rows, *(inputs.outcome or ())), jnp.result_type(int))
    concrete = list(_with_values(call, inputs))[-1]
    try:
        concrete.sites_on(n_rows, outcome)
    except Exception as with_outcome:
        if not needs_values(with_outcome) or sites_if_run(concrete, n_rows) is None:
            return
        raise ValueError(
            f"The kernel needs the values of its outcome {call.output!r} while it is traced, as `int(np.max(...))` "
            "does, and a compiled kernel knows none of them: pass what it takes from them, such as the number of "
            "classes, as an argument."
        ) from error


def _with_values(call: AbstractCall, inputs: Inputs) -> Iterator[AbstractCall]:
    """Yield the kernel with the values of arrays that all rows share, then those of rows, and then outcomes."""
    shared = (*call.static, *((name, ByValue.of(np.asarray(array))) for name, array in inputs.whole.items()))
    if inputs.whole:
        yield replace(call, static=shared)
    rows = tuple((name, ByValue.of(np.asarray(array[:]))) for name, array in inputs.rows.items())
    yield replace(call, static=shared, values=rows)
    if inputs.observed is not None:
        yield replace(call, static=shared, values=(*rows, (call.output, ByValue.of(np.asarray(inputs.observed[:])))))


@functools.lru_cache(maxsize=SPECS_KEPT)
def _description(call: AbstractCall, n_rows: tuple[int, int]) -> KernelSpec | None:
    """Describe a kernel, None if it cannot be traced."""
    given = len(call.values[0][1].value) if call.values else None
    try:
        spec = describe(call, n_rows if given is None else (given, 2 * given))
    except Exception:
        return None
    # A value may come from any row, and no operation of a trace shows it.
    return spec if given is None else bound_to_rows(spec, SEES_ROWS, given)
