"""Whether a value of a trace is the outcome as it is given: its numbers, each in its own row, or a filler for some."""

import enum
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from skaimz.kernels.operations import MOVES, carried_by
from skaimz.kernels.row_numbers import other_indices, row_numbers

__all__ = ["is_outcome"]

INLINED = ("jit", "pjit")
LOGICAL = frozenset({"and", "or", "not", "xor"})


class _Use(enum.Enum):
    """What a value takes from the outcome."""

    NOTHING = enum.auto()
    ITSELF = enum.auto()  # its numbers, on other axes or in another type
    WHICH = enum.auto()  # which of its entries are numbers
    ELSE = enum.auto()


class _Value(NamedTuple):
    """A result of an operation."""

    number: int
    aval: Any


class _Operation(NamedTuple):
    """An operation as JAX describes it, in a program without calls of other programs."""

    primitive: Any
    params: Mapping[str, Any]
    invars: list[Any]
    outvars: list[Any]


class _Program(NamedTuple):
    """Operations in their order."""

    eqns: list[_Operation]


def is_outcome(trace: ClosedJaxpr, output: int, source: int, n_rows: int) -> bool:
    """Whether an output of a trace holds nothing of the outcome but its numbers, each in its own row.

    Entries that are not finite, or that an argument chooses, may be replaced by something else.

    Parameters
    ----------
    trace : ClosedJaxpr
    output : int
        Position of the output.
    source : int
        Position of the output that is the outcome itself, an argument of the trace.
    n_rows : int
    """
    jaxpr = trace.jaxpr
    outcome = jaxpr.outvars[source]
    arguments = [_Use.ITSELF if variable is outcome else _Use.NOTHING for variable in jaxpr.invars]
    return _uses(jaxpr, arguments, n_rows)[output] is _Use.ITSELF


def _inlined(jaxpr: Jaxpr, values: Sequence[Any], numbers: Iterator[int]) -> tuple[list[_Operation], list[Any]]:
    """Return the operations of a program and of those that it calls, and its outputs, given its arguments."""
    known = dict(zip(jaxpr.invars, values, strict=True))
    read = lambda operand: operand if isinstance(operand, Literal) else known.get(operand, operand)  # noqa: E731
    operations: list[_Operation] = []
    for eqn in jaxpr.eqns:
        operands = list(map(read, eqn.invars))
        if eqn.primitive.name in INLINED:
            inner, results = _inlined(eqn.params["jaxpr"].jaxpr, operands, numbers)
            operations += inner
        else:
            results = [_Value(next(numbers), variable.aval) for variable in eqn.outvars]
            operations.append(_Operation(eqn.primitive, eqn.params, operands, results))
        known.update(zip(eqn.outvars, results, strict=True))
    return operations, list(map(read, jaxpr.outvars))


def _uses(jaxpr: Jaxpr, arguments: Sequence[_Use], n_rows: int) -> list[_Use]:
    """Return what the outputs of a program take from the outcome, given what its arguments take."""
    operations, outputs = _inlined(jaxpr, jaxpr.invars, itertools.count())
    program: Any = _Program(operations)
    rows, uses = row_numbers(program, n_rows), dict(zip(jaxpr.invars, arguments, strict=True))
    use_of = lambda operand: _Use.NOTHING if isinstance(operand, Literal) else uses.get(operand, _Use.NOTHING)  # noqa: E731
    for operation in operations:
        into = list(map(use_of, operation.invars))
        if all(use is _Use.NOTHING for use in into):
            continue
        if operation.primitive.name == "scan":
            results = _of_scan(operation, into, n_rows)
        else:
            results = [_of_operation(program, operation, into, n_rows, rows)] * len(operation.outvars)
        uses.update(zip(operation.outvars, results, strict=True))
    return list(map(use_of, outputs))


def _of_scan(scan: _Operation, into: list[_Use], n_rows: int) -> list[_Use]:
    body = scan.params["jaxpr"].jaxpr
    carried = carried_by(scan, body)
    while True:
        results = _uses(body, into, n_rows)
        # What a step hands to the next is in another row there.
        after = [was if was is now else _Use.ELSE for was, now in zip(into[carried], results, strict=False)]
        if after == into[carried]:
            return results
        into = [*into[: carried.start], *after, *into[carried.stop :]]


def _of_operation(program: Any, operation: _Operation, into: list[_Use], n_rows: int, rows: Any) -> _Use:
    name, first, others = operation.primitive.name, into[0], set(into[1:])
    if name in MOVES:
        return first if others <= {_Use.NOTHING} and not _reorders(program, operation, n_rows, rows) else _Use.ELSE
    if name == "select_n":
        chosen = first in (_Use.NOTHING, _Use.WHICH) and others <= {_Use.NOTHING, _Use.ITSELF}
        return _Use.ITSELF if chosen and _Use.ITSELF in others else _Use.ELSE
    if name == "is_finite" and first is _Use.ITSELF:
        return _Use.WHICH
    if name in ("eq", "ne") and first is _Use.ITSELF:
        one, other = operation.invars
        return _Use.WHICH if one is other or _is_infinite(other) else _Use.ELSE
    return _Use.WHICH if name in LOGICAL and set(into) <= {_Use.NOTHING, _Use.WHICH} else _Use.ELSE


def _is_infinite(operand: Any) -> bool:
    return isinstance(operand, Literal) and np.ndim(operand.val) == 0 and bool(np.isinf(operand.val))


def _reorders(program: Any, operation: _Operation, n_rows: int, rows: Any) -> bool:
    """Whether an operation picks rows by other numbers than their own."""
    if operation.primitive.name != "gather":
        return False
    indexed = operation.params["dimension_numbers"].start_index_map
    axes = [axis for axis in indexed if operation.invars[0].aval.shape[axis] == n_rows]
    return any(other_indices(program, operation, axis, rows) is None for axis in axes)
