"""Proof, from two abstract traces, that the rows of a kernel do not depend on one another.

The same function is traced at two row counts. An axis whose length differs between the traces is a row axis; nothing is
guessed. The proof goes back from an output through all operations that it depends on, each of which must keep the rows
apart: elementwise arithmetic, products that contract other axes, gathers from a table, reductions over other axes. Any
other operation (a sum or a sort over rows, a ``scan`` along them, a row number) counts as mixing rows. The proof
computes nothing and looks at no data. If it errs, rows that are independent count as mixed, which costs time only.
"""

import enum
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var

from skaimz.kernels.operations import carried_by, keeps_rows
from skaimz.kernels.row_numbers import other_indices, row_numbers

__all__ = ["MixedRowsError", "RowProof"]

# From this number of rows and columns on, a product of matrices is faster draw by draw than for many draws at once.
LARGE_MATRIX = 32
# Static parameters that may contain the length of a row axis.
LENGTHS = frozenset({"shape", "new_sizes", "slice_sizes", "limit_indices", "sizes"})
# Operations on slices that begin at places given by operands, and the number of arrays among their operands.
SLICES = {"dynamic_slice": 1, "dynamic_update_slice": 2}
CALLS = frozenset(
    "jit pjit closed_call core_call custom_jvp_call custom_vjp_call remat2 checkpoint cond while scan".split()
)
OTHERWISE = "the kernel does something else for another number of rows"


class MixedRowsError(Exception):
    """An operation is not known to keep rows apart."""


class RowProof:
    """Two traces of a function, which show for each of its outputs whether rows are mixed.

    Parameters
    ----------
    traces : pair of ClosedJaxpr
        The function at the two row counts.
    n_rows : pair of int
        The row counts.
    """

    def __init__(self, traces: tuple[ClosedJaxpr, ClosedJaxpr], n_rows: tuple[int, int]):
        self.traces = traces
        self.n_rows = n_rows

    @classmethod
    def of(cls, function: Callable, at: Callable[[int], tuple], n_rows: tuple[int, int]) -> "RowProof":
        """Trace a function, given its abstract arguments ``at(n)`` for ``n`` rows."""
        first, second = (jax.make_jaxpr(function)(*at(n)) for n in n_rows)
        return cls((first, second), n_rows)

    def mixing(self, output: int) -> str | None:
        """Return why the rows of an output may depend on one another, or None if they provably do not."""
        try:
            self._walk(*self.traces, outputs=[output])
        except MixedRowsError as reason:
            return str(reason)
        return None

    def row_axis(self, output: int) -> int | None:
        """Return the row axis of an output that does not mix rows."""
        return self._axis(*(trace.jaxpr.outvars[output] for trace in self.traces))

    @property
    def width(self) -> int:
        """Largest number of elements for one row among all intermediate values."""
        results = (variable for eqn in _equations(self.traces[0].jaxpr) for variable in eqn.outvars)
        sizes = (math.prod(getattr(variable.aval, "shape", ())) for variable in results)
        return max(1, max(sizes, default=0) // self.n_rows[0])

    @property
    def multiplies_matrices(self) -> bool:
        """Whether rows are multiplied by matrices that are large in both directions, as in a neural network."""
        for eqn in _equations(self.traces[0].jaxpr):
            if eqn.primitive.name == "dot_general":
                contracted, _ = eqn.params["dimension_numbers"]
                shapes = [variable.aval.shape for variable in eqn.invars]
                summed = math.prod(shapes[0][axis] for axis in contracted[0])
                per_row = math.prod(eqn.outvars[0].aval.shape) // self.n_rows[0]
                if min(summed, per_row) >= LARGE_MATRIX:
                    return True
        return False

    def _axis(self, first: Any, second: Any) -> int | None:
        """Return the row axis of a value, or None if it has none."""
        shapes = getattr(first.aval, "shape", ()), getattr(second.aval, "shape", ())
        if len(shapes[0]) != len(shapes[1]):
            raise MixedRowsError("a value changes its rank with the number of rows")
        changed = [axis for axis, sizes in enumerate(zip(*shapes, strict=True)) if sizes[0] != sizes[1]]
        if not changed:
            return None
        if len(changed) > 1:
            raise MixedRowsError("an intermediate value has rows on two axes")
        axis = changed[0]
        if (shapes[0][axis], shapes[1][axis]) != self.n_rows:
            raise MixedRowsError("an intermediate value has an axis that grows with the rows but is not the rows")
        return axis

    def _walk(self, first: ClosedJaxpr, second: ClosedJaxpr, outputs: Sequence[int] | None = None) -> None:
        """Check every operation that the chosen outputs depend on."""
        one, other = first.jaxpr, second.jaxpr
        if any("Debug" not in type(effect).__name__ for eqn in one.eqns for effect in eqn.effects):
            raise MixedRowsError("the kernel has side effects")
        if len(one.eqns) != len(other.eqns):
            raise MixedRowsError(OTHERWISE)
        twins = dict(zip((*one.invars, *one.constvars), (*other.invars, *other.constvars), strict=True))
        for pair in zip(one.eqns, other.eqns, strict=True):
            twins.update(zip(pair[0].outvars, pair[1].outvars, strict=True))
        chosen = range(len(one.outvars)) if outputs is None else outputs
        needed = self._needed(twins, [one.outvars[i] for i in chosen], [other.outvars[i] for i in chosen])
        numbers = [row_numbers(*each) for each in zip((one, other), self.n_rows, strict=True)]
        for pair in zip(reversed(one.eqns), reversed(other.eqns), strict=True):
            if needed.isdisjoint(pair[0].outvars):
                continue
            in_place = self._in_place(pair, (one, other), numbers)
            needed |= self._needed(twins, *(in_place or self._operands(*pair)))
            if in_place is None:
                self._check(*pair, needed)
        for variable, *constants in zip(one.constvars, first.consts, second.consts, strict=True):
            if variable in needed and not _same(*constants):
                raise MixedRowsError("a constant of the kernel depends on the rows' number or order")

    def _in_place(self, pair: tuple, jaxprs: tuple, numbers: Sequence[Mapping[Any, int]]) -> tuple[list, list] | None:
        """Return the operands of an operation that indexes rows by their own numbers; None for any other operation.

        It leaves each row where it is, whatever its number.
        """
        if pair[0].primitive.name != "gather" or pair[0].params != pair[1].params:
            return None
        rows = self._axis(pair[0].invars[0], pair[1].invars[0])
        first, second = (
            other_indices(jaxpr, eqn, rows, axes) for jaxpr, eqn, axes in zip(jaxprs, pair, numbers, strict=True)
        )
        if first is None or second is None:
            return None
        return [pair[0].invars[0], *first], [pair[1].invars[0], *second]

    def _operands(self, first: Any, second: Any) -> tuple[list, list]:
        """Return the operands of an operation, without the place where a slice of all rows begins: it has no choice."""
        operands = list(first.invars), list(second.invars)
        arrays = SLICES.get(first.primitive.name)
        if arrays is not None:
            pairs = [*zip(first.invars[:arrays], second.invars[:arrays], strict=True)]
            axes = {self._axis(*pair) for pair in [*pairs, (first.outvars[0], second.outvars[0])]}
            rows = axes.pop()
            if rows is not None and not axes:
                for each in operands:
                    del each[arrays + rows]
        return operands

    def _needed(self, twins: dict[Var, Var], first: Sequence, second: Sequence) -> set[Var]:
        """Return the variables among operands, which must be the same in both traces."""
        for one, other in zip(first, second, strict=True):
            if isinstance(one, Literal) != isinstance(other, Literal):
                raise MixedRowsError(OTHERWISE)
            if isinstance(one, Literal):
                if not _same(one.val, other.val):
                    raise MixedRowsError("the kernel uses the number of rows as a value")
            elif twins[one] is not other:
                raise MixedRowsError(OTHERWISE)
        return {one for one in first if isinstance(one, Var)}

    def _check(self, first: Any, second: Any, needed: set[Var]) -> None:
        """Check an operation, as it is in each of the traces, given the variables that the chosen outputs depend on."""
        name = first.primitive.name
        if name != second.primitive.name or first.params.keys() != second.params.keys():
            raise MixedRowsError(OTHERWISE)
        into = [self._axis(*pair) for pair in zip(first.invars, second.invars, strict=True)]
        out = [self._axis(*pair) for pair in zip(first.outvars, second.outvars, strict=True)]
        inner = _closed_jaxprs(first.params), _closed_jaxprs(second.params)
        if len(inner[0]) != len(inner[1]):
            raise MixedRowsError(OTHERWISE)
        touched = any(axis is not None for axis in (*into, *out))
        if touched and name in CALLS:
            self._check_call(name, first, into, out)
        for key, value in first.params.items():
            self._check_parameter(name, key, value, second.params[key])
        if touched and name not in CALLS and not self._keeps(first, into, out):
            raise MixedRowsError(f"the operation '{name}' may mix rows")
        # Functions with custom derivatives have programs for these as well. Only the first one, the function, matters.
        outputs = None
        if name == "scan":
            # A step also returns what nobody needs, such as the sizes of plates.
            carried = carried_by(first, inner[0][0].jaxpr)
            n_carried = carried.stop - carried.start
            outputs = [i for i, out in enumerate(first.outvars) if i < n_carried or out in needed]
        for pair in zip(*(jaxprs[:1] if name.startswith("custom_") else jaxprs for jaxprs in inner), strict=True):
            self._walk(pair[0], pair[1], outputs)

    def _keeps(self, eqn: Any, into: list[int | None], out: list[int | None]) -> bool:
        """Whether an operation without inner programs keeps rows apart."""
        return keeps_rows(eqn, into, out)

    def _check_parameter(self, name: str, key: str, first: Any, second: Any) -> None:
        """Check that a static parameter differs between the traces by the lengths of row axes only."""
        if _is_plain(first):
            if key in LENGTHS and isinstance(first, tuple) and isinstance(second, tuple):
                first = tuple(self.n_rows[1] if size == self.n_rows[0] else size for size in first)
            if not _same(first, second):
                raise MixedRowsError(f"the operation '{name}' depends on the number of rows")
        elif name not in CALLS and not isinstance(first, ClosedJaxpr | Jaxpr) and first != second:
            raise MixedRowsError(f"the operation '{name}' may depend on the number of rows")

    def _check_call(self, name: str, eqn: Any, into: list, out: list) -> None:
        """Check how rows enter and leave an operation that runs inner programs."""
        if name == "scan":
            body = _closed_jaxprs(eqn.params)[0].jaxpr
            along = (
                *zip(into, eqn.invars, body.invars, strict=True),
                *zip(out, eqn.outvars, body.outvars, strict=True),
            )
            # An array that is scanned has one axis more outside the body than inside: the first.
            if any(axis == 0 and outer.aval.ndim > inner.aval.ndim for axis, outer, inner in along):
                raise MixedRowsError("a scan runs along the rows")
        elif name == "cond" and into[0] is not None:
            raise MixedRowsError("a branch depends on a row")


def _is_plain(value: Any) -> bool:
    """Whether a static parameter consists of data that can be compared."""
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | complex | str | np.dtype | np.ndarray | enum.Enum)


def _same(first: Any, second: Any) -> bool:
    """Whether two values are the same. NaN counts as equal to NaN."""
    if isinstance(first, tuple | list):
        return type(first) is type(second) and len(first) == len(second) and all(map(_same, first, second))
    if first is second or np.shape(first) != np.shape(second):
        return first is second
    return bool(np.all((first == second) | ((first != first) & (second != second))))


def _closed_jaxprs(params: dict[str, Any]) -> list[ClosedJaxpr]:
    items = [item for value in params.values() for item in (value if isinstance(value, tuple | list) else (value,))]
    return [
        item if isinstance(item, ClosedJaxpr) else ClosedJaxpr(item, ())
        for item in items
        if isinstance(item, ClosedJaxpr | Jaxpr)
    ]


def _equations(jaxpr: Jaxpr) -> Iterator[Any]:
    """Yield the operations of a program and of those inside it."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in _closed_jaxprs(eqn.params):
            yield from _equations(inner.jaxpr)
