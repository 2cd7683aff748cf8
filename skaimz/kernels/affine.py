"""Proof, from an abstract trace, that a function is affine in some of its arguments.

The average of an affine function is the function of the average. If the conditional mean of a kernel is affine in the
posterior draws, it can therefore be computed once, at the average draw. Each value of the trace is constant, affine or
neither in the arguments, and an operation that is not known to keep a value affine makes it neither. The proof computes
nothing. If it errs, an affine function counts as neither, which costs time only.
"""

from collections.abc import Sequence
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

__all__ = ["dependent", "is_affine"]

# Degree of a value in the arguments.
CONSTANT, AFFINE, OTHER = range(3)
# Operations that are linear in all their operands together.
LINEAR = frozenset(
    """
    add add_any broadcast_in_dim concatenate copy copy_p cumsum expand_dims neg pad reduce_sum reshape rev slice split
    squeeze stack stop_gradient sub transpose
    """.split()
)
# Operations that are linear in each operand while the others are constant.
BILINEAR = frozenset({"mul", "dot_general", "conv_general_dilated"})
# Operations that are linear in all operands but one, which must be constant: the position of that one.
LINEAR_BUT_FOR = {"div": 1, "gather": 1, "select_n": 0}
CALLS = frozenset({"jit", "pjit", "closed_call", "core_call", "custom_jvp_call"})


def is_affine(trace: ClosedJaxpr, arguments: Sequence[int]) -> bool:
    """Whether all results of a traced function are affine in some arguments while the others are constant.

    Parameters
    ----------
    trace : ClosedJaxpr
    arguments : sequence of int
        Positions of the arguments among the inputs of the trace.
    """
    return max(_degrees_in(trace, arguments), default=CONSTANT) <= AFFINE


def dependent(trace: ClosedJaxpr, arguments: Sequence[int]) -> list[bool]:
    """Return for each result of a traced function whether it may depend on some arguments, given their positions."""
    return [degree != CONSTANT for degree in _degrees_in(trace, arguments)]


def _degrees_in(trace: ClosedJaxpr, arguments: Sequence[int]) -> list[int]:
    chosen = set(arguments)
    degrees = [AFFINE if position in chosen else CONSTANT for position in range(len(trace.jaxpr.invars))]
    return _results(trace.jaxpr, degrees)


def _results(jaxpr: Jaxpr, degrees: list[int]) -> list[int]:
    """Return the degrees of a program's results."""
    known: dict[Any, int] = dict(zip(jaxpr.invars, degrees, strict=True))
    of = lambda values: [CONSTANT if isinstance(v, Literal) else known.get(v, CONSTANT) for v in values]  # noqa: E731
    for eqn in jaxpr.eqns:
        known.update(zip(eqn.outvars, _degrees(eqn, of(eqn.invars)), strict=True))
    return of(jaxpr.outvars)


def _degrees(eqn: Any, degrees: list[int]) -> list[int]:
    """Return the degrees of the results of an operation."""
    name, highest = eqn.primitive.name, max(degrees, default=CONSTANT)
    if highest == AFFINE and name in CALLS:
        inner = eqn.params.get("jaxpr") or eqn.params["call_jaxpr"]
        return _results(getattr(inner, "jaxpr", inner), degrees)
    return [highest if highest != AFFINE or _keeps_affine(name, eqn, degrees) else OTHER] * len(eqn.outvars)


def _keeps_affine(name: str, eqn: Any, degrees: list[int]) -> bool:
    if name in LINEAR:
        return True
    if name in BILINEAR:
        return degrees.count(AFFINE) == 1
    if name == "convert_element_type":
        # Rounding to integers is not linear.
        return all(variable.aval.dtype.kind == "f" for variable in (*eqn.invars, *eqn.outvars))
    return name in LINEAR_BUT_FOR and degrees[LINEAR_BUT_FOR[name]] == CONSTANT
