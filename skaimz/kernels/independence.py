"""Proof, from two abstract traces, that the rows of a kernel do not depend on one another.

The same function is traced at two row counts. An axis whose length differs between the two traces is a row axis, in
every intermediate value, with no guessing. Walking back from an output, each operation on the way must keep the rows
apart: elementwise arithmetic, products that contract other axes, gathers from a table, reductions over other axes. An
operation that is not known to do so (a sum or a sort over rows, a ``scan`` along them, a row number) counts as mixing
rows. The proof computes nothing, looks at no data, and errs only towards the slower way.
"""

import enum
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var

__all__ = ["RowProof"]

ELEMENTWISE = frozenset(
    """
    abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp clz conj
    convert_element_type copy copy_p cos cosh digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt
    igamma igamma_grad_a igammac imag integer_pow is_finite le le_to lgamma log log1p logistic lt lt_to max min
    mul ne neg nextafter not one_minus_square optimization_barrier or polygamma population_count pow random_gamma_grad
    real reduce_precision regularized_incomplete_beta rem round rsqrt select_n shift_left shift_right_arithmetic
    shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh xor zeta mul_add
    """.split()
)
SAME_BLOCKS = frozenset({"reshape", "squeeze", "expand_dims"})
# Operations whose result holds numbers of their first operand.
MOVES = SAME_BLOCKS | frozenset(
    """
    broadcast_in_dim convert_element_type copy copy_p dynamic_slice gather slice stop_gradient transpose
    """.split()
)
REDUCTIONS = frozenset(
    """
    reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor argmax argmin
    """.split()
)
SCANS_AN_AXIS = frozenset(
    """
    cumsum cumprod cummax cummin cumlogsumexp
    """.split()
)
# Rows and columns from which on a product of matrices is faster draw by draw than for many draws at once.
LARGE_MATRIX = 32
# Static parameters that hold the length of a row axis.
LENGTHS = frozenset({"shape", "new_sizes", "slice_sizes", "limit_indices", "sizes"})
CALLS = frozenset(
    """
    jit pjit closed_call core_call custom_jvp_call custom_vjp_call remat2 checkpoint cond while scan
    """.split()
)
MATRIX_FUNCTIONS = frozenset(
    """
    cholesky triangular_solve lu qr eigh eig svd lu_pivots_to_permutation
    """.split()
)


class MixedRowsError(Exception):
    """Raised inside this module when an operation is not known to keep rows apart."""


class RowProof:
    """Two traces of a function, to be asked about its outputs one by one.

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
        """Trace ``function`` with the abstract arguments that ``at`` gives for a row count."""
        first, second = (jax.make_jaxpr(function)(*at(n)) for n in n_rows)
        return cls((first, second), n_rows)

    def mixing(self, output: int) -> str | None:
        """Return why the rows of one output may depend on one another, or None where they provably do not."""
        try:
            self._walk(*self.traces, outputs=[output])
        except MixedRowsError as reason:
            return str(reason)
        return None

    def row_axis(self, output: int) -> int | None:
        """Return the row axis of an output that does not mix rows."""
        return self._axis(*(trace.jaxpr.outvars[output] for trace in self.traces))

    def only_moves(self, output: int, source: int) -> bool:
        """Whether an output holds nothing but numbers of another one, which is an argument."""
        outvars = self.traces[0].jaxpr.outvars
        return _moved_from(self.traces[0].jaxpr, outvars[output]) is outvars[source]

    @property
    def width(self) -> int:
        """Largest number of elements that any intermediate value holds for one row."""
        made = (variable for eqn in _equations(self.traces[0].jaxpr) for variable in eqn.outvars)
        sizes = (math.prod(getattr(variable.aval, "shape", ())) for variable in made)
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
        """Return the row axis of a value, None where it has none."""
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
            raise MixedRowsError("the kernel does something else for another number of rows")
        twins = dict(zip((*one.invars, *one.constvars), (*other.invars, *other.constvars), strict=True))
        for pair in zip(one.eqns, other.eqns, strict=True):
            twins.update(zip(pair[0].outvars, pair[1].outvars, strict=True))
        chosen = range(len(one.outvars)) if outputs is None else outputs
        needed = self._needed(twins, [one.outvars[i] for i in chosen], [other.outvars[i] for i in chosen])
        for pair in zip(reversed(one.eqns), reversed(other.eqns), strict=True):
            if not needed.isdisjoint(pair[0].outvars):
                needed |= self._needed(twins, pair[0].invars, pair[1].invars)
                self._check(*pair)
        for variable, *constants in zip(one.constvars, first.consts, second.consts, strict=True):
            if variable in needed and not _same(*constants):
                raise MixedRowsError("a constant of the kernel depends on the rows' number or order")

    def _needed(self, twins: dict[Var, Var], first: Sequence, second: Sequence) -> set[Var]:
        """Return the variables among operands, which must be the same ones in both traces."""
        for one, other in zip(first, second, strict=True):
            if isinstance(one, Literal) != isinstance(other, Literal):
                raise MixedRowsError("the kernel does something else for another number of rows")
            if isinstance(one, Literal):
                if not _same(one.val, other.val):
                    raise MixedRowsError("the kernel uses the number of rows as a value")
            elif twins[one] is not other:
                raise MixedRowsError("the kernel does something else for another number of rows")
        return {one for one in first if isinstance(one, Var)}

    def _check(self, first: Any, second: Any) -> None:
        name = first.primitive.name
        if name != second.primitive.name or first.params.keys() != second.params.keys():
            raise MixedRowsError("the kernel does something else for another number of rows")
        into = [self._axis(*pair) for pair in zip(first.invars, second.invars, strict=True)]
        out = [self._axis(*pair) for pair in zip(first.outvars, second.outvars, strict=True)]
        inner = _closed_jaxprs(first.params), _closed_jaxprs(second.params)
        if len(inner[0]) != len(inner[1]):
            raise MixedRowsError("the kernel does something else for another number of rows")
        touched = any(axis is not None for axis in (*into, *out))
        if touched and name in CALLS:
            self._check_call(name, first, into, out)
        for key, value in first.params.items():
            self._check_parameter(name, key, value, second.params[key])
        if touched and name not in CALLS and not _keeps_rows(name, first, into, out):
            raise MixedRowsError(f"the operation '{name}' may mix rows")
        # Of a function with a derivative of its own only the function counts.
        for pair in zip(*(jaxprs[:1] if name.startswith("custom_") else jaxprs for jaxprs in inner), strict=True):
            self._walk(*pair)

    def _check_parameter(self, name: str, key: str, first: Any, second: Any) -> None:
        """Let static parameters differ in nothing but the lengths of row axes."""
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
            # What is scanned has an axis more outside the body than inside, and that is its first.
            if any(axis == 0 and outer.aval.ndim > inner.aval.ndim for axis, outer, inner in along):
                raise MixedRowsError("a scan runs along the rows")
        elif name == "cond" and into[0] is not None:
            raise MixedRowsError("a branch depends on a row")


def _is_plain(value: Any) -> bool:
    """Whether a static parameter is data that can be compared."""
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | complex | str | np.dtype | np.ndarray | enum.Enum)


def _same(first: Any, second: Any) -> bool:
    """Whether two values are the same, NaN being the same as NaN."""
    if isinstance(first, tuple | list):
        return type(first) is type(second) and len(first) == len(second) and all(map(_same, first, second))
    if first is second or np.shape(first) != np.shape(second):
        return first is second
    return bool(np.all((first == second) | ((first != first) & (second != second))))


def _keeps_rows(name: str, eqn: Any, into: list[int | None], out: list[int | None]) -> bool:
    """Whether an operation without inner programs leaves every row to itself."""
    rows = next((axis for axis in into if axis is not None), None)
    shapes = [getattr(v.aval, "shape", ()) for v in eqn.invars]
    result = eqn.outvars[0].aval.shape
    params = eqn.params
    match name:
        case _ if name in ELEMENTWISE:
            # Operands have the shape of the result or are scalars, so one row axis means the same rows.
            return rows is not None and {axis for axis in into if axis is not None} == set(out)
        case "broadcast_in_dim":
            return rows is None or params["broadcast_dimensions"][rows] == out[0]
        case "iota":
            return params["dimension"] != out[0]
        case "gather":
            return _gather_keeps_rows(params, into, shapes)
        case _ if rows is None:
            return False  # the number of rows came out of something else
        case _ if name in SAME_BLOCKS:
            in_order = name != "reshape" or params["dimensions"] is None
            return in_order and out[0] is not None and math.prod(shapes[0][:rows]) == math.prod(result[: out[0]])
        case "transpose":
            return out[0] is not None and params["permutation"][out[0]] == rows
        case _ if name in REDUCTIONS:
            return rows not in params["axes"]
        case _ if name in SCANS_AN_AXIS:
            return params["axis"] != rows
        case "sort" | "concatenate":
            return params["dimension"] not in into and len({*into, *out} - {None}) == 1
        case "stack":
            return {*into} == {rows} and out[0] == rows + (params["axis"] <= rows)
        case "split" | "top_k":
            return params.get("axis", len(shapes[0]) - 1) not in (rows, (rows or 0) - len(shapes[0]))
        case "rev":
            return rows not in params["dimensions"]
        case "pad":
            return into[1] is None and params["padding_config"][rows] == (0, 0, 0)
        case "slice":
            strides = params["strides"] or (1,) * len(result)
            return out[0] == rows and params["start_indices"][rows] == 0 and strides[rows] == 1
        case "dynamic_slice":
            return out[0] == rows and into[0] == rows and set(into[1:]) <= {None}
        case "dynamic_update_slice":
            return into[0] == into[1] == out[0] and set(into[2:]) <= {None}
        case "dot_general":
            return _product_keeps_rows(params["dimension_numbers"], into)
        case "conv_general_dilated":
            numbers = params["dimension_numbers"]
            return into == [numbers.lhs_spec[0], None] and params["batch_group_count"] == 1
        case "triangular_solve" if into[0] is None:
            # Right-hand sides side by side do not meet; with the unknown on the left they stand on the other axis.
            return rows < len(result) - 2 or rows == len(result) - (1 if params["left_side"] else 2)
        case _ if name in MATRIX_FUNCTIONS:
            return {*into, *out} == {rows} and all(rows < len(shape) - 2 for shape in shapes)
    return False


def _product_keeps_rows(dimension_numbers: Any, into: list[int | None]) -> bool:
    contracted, batched = dimension_numbers
    if any(axis is not None and axis in summed for axis, summed in zip(into, contracted, strict=True)):
        return False
    if None in into:
        return all(axis is None or axis not in batch for axis, batch in zip(into, batched, strict=True))
    return tuple(into) in set(zip(*batched, strict=True))


def _gather_keeps_rows(params: Any, into: list[int | None], shapes: list[tuple]) -> bool:
    numbers, (operand, indices) = params["dimension_numbers"], into
    batched = set(zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True))
    if operand is None:
        return indices is not None and indices != len(shapes[1]) - 1
    if indices is not None:
        return (operand, indices) in batched
    return (
        params["slice_sizes"][operand] == shapes[0][operand]
        and operand not in numbers.collapsed_slice_dims
        and operand not in numbers.operand_batching_dims
    )


def _moved_from(jaxpr: Jaxpr, variable: Any) -> Any:
    """Return the variable whose numbers another one has: changes of shape and type are gone back through."""
    made_by = {out: eqn for eqn in jaxpr.eqns for out in eqn.outvars}
    while variable in made_by:
        eqn = made_by[variable]
        name = eqn.primitive.name
        if name in ("jit", "pjit", "scan"):
            within = _closed_jaxprs(eqn.params)[0].jaxpr
            source = _moved_from(within, within.outvars[eqn.outvars.index(variable)])
            if source not in within.invars:
                break
            variable = eqn.invars[within.invars.index(source)]
        elif name in MOVES:
            variable = eqn.invars[0]
        else:
            break
    return variable


def _closed_jaxprs(params: dict[str, Any]) -> list[ClosedJaxpr]:
    found = []
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, ClosedJaxpr):
                found.append(item)
            elif isinstance(item, Jaxpr):
                found.append(ClosedJaxpr(item, ()))
    return found


def _equations(jaxpr: Jaxpr) -> Iterator[Any]:
    """Yield the operations of a program and of those inside it."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in _closed_jaxprs(eqn.params):
            yield from _equations(inner.jaxpr)
