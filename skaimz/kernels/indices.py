"""The values that a kernel uses as indices, and the lengths of the axes that they index.

JAX raises no error for an index out of range: it takes the last entry or NaN for an index that is too large, writes
nothing there, and counts a negative index from the end. This module therefore finds in the trace of a kernel which
arguments and sites are indices, so that their values can be compared with the length of the axis before the kernel
runs. A number that the kernel adds or subtracts first, as one does with codes that count from 1, is taken into account.
The comparison is left to the kernel if it computes the index in another way, or itself compares the index with
something.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

__all__ = ["Index", "check_index", "indices_of"]

# Operations whose result contains the same numbers as their operand.
SAME_NUMBERS = frozenset(
    """
    broadcast_in_dim convert_element_type copy copy_p expand_dims optimization_barrier reshape rev squeeze stop_gradient
    transpose
    """.split()
)
COMPARISONS = frozenset("clamp eq ge gt le lt max min ne".split())
CALLS = frozenset("checkpoint closed_call core_call custom_jvp_call custom_vjp_call jit pjit remat2".split())


class Index(NamedTuple):
    """A value that a kernel uses as an index.

    Attributes
    ----------
    kind : {"argument", "site", "parameter", "constant"}
    name : str
        Name of the argument, the site or the parameter of the kernel object; the number if it is a constant.
    column : int or None
        Column of the argument that is used; None for all entries.
    length : int or None
        Length of the shortest axis that is indexed; None for the axis of the rows.
    offset : int
        What the kernel adds before it indexes.
    """

    kind: str
    name: Any
    column: int | None
    length: int | None
    offset: int = 0


@dataclass(frozen=True)
class _Source:
    """The origin of the numbers of an intermediate value.

    The numbers are those of the source plus ``offset``. A value that ``is_sign`` shows which of them are negative.
    """

    kind: str
    name: Any
    n_axes: int = 0
    column: int | None = None
    offset: int = 0
    is_sign: bool = False

    @property
    def key(self) -> tuple[str, Any]:
        return self.kind, self.name


def indices_of(traces: Sequence[ClosedJaxpr], arguments: Sequence[tuple], n_rows: tuple[int, int]) -> tuple[Index, ...]:
    """Return the values that a function uses as indices.

    Parameters
    ----------
    traces : pair of ClosedJaxpr
        The function at two row counts.
    arguments : pair of tuple
        Its abstract arguments at each row count: dicts of the kernel's own parameters, of its arguments with and
        without rows, and of its sites; then a key.
    n_rows : pair of int
        The row counts.
    """
    readers = [_Reader(), _Reader()]
    for reader, trace, abstract in zip(readers, traces, arguments, strict=True):
        reader.read(trace.jaxpr, _sources_of(abstract))
    few, many = (reader.indexed for reader in readers)
    # Indices whose sources depend on the number of rows cannot be checked by one rule.
    if [replace(source, offset=0) for source, _ in few] != [replace(source, offset=0) for source, _ in many]:
        return ()
    shortest: dict[tuple[str, Any, int | None, int, bool], int] = {}
    for (source, length), (of_many, other) in zip(few, many, strict=True):
        # A length that changes with the number of rows can only be that number itself.
        is_rows = length != other
        if source.key in readers[0].compared or source != of_many or (is_rows and (length, other) != n_rows):
            continue
        index = (*source.key, source.column, source.offset, is_rows)
        shortest[index] = min(length, shortest.get(index, length))
    return tuple(
        Index(kind, name, column, None if is_rows else length, offset)
        for (kind, name, column, offset, is_rows), length in shortest.items()
    )


def _sources_of(arguments: tuple) -> list[_Source | None]:
    """Return the sources of a function's inputs, None for inputs that are no array of their own."""
    kinds = ("parameter", "argument", "argument", "site")
    sources: list[_Source | None] = []
    for kind, group in zip(kinds, arguments[:-1], strict=True):
        for path, value in jax.tree_util.tree_flatten_with_path(group)[0]:
            sources.append(_Source(kind, path[0].key, np.ndim(value)) if len(path) == 1 else None)
    return [*sources, None]


class _Reader:
    """Reads a program operation by operation.

    Attributes
    ----------
    indexed : list of (_Source, int)
        Values that are used as indices, with the length of the axis.
    compared : set of (str, object)
        Keys of the arguments that the program compares with something.
    """

    def __init__(self) -> None:
        self.indexed: list[tuple[_Source, int]] = []
        self.compared: set[tuple[str, Any]] = set()

    def read(self, jaxpr: Jaxpr, sources: Sequence[Any]) -> list[Any]:
        """Return the sources of a program's results, given the sources of its inputs."""
        known: dict[Any, Any] = dict(zip(jaxpr.invars, sources, strict=True))

        def source_of(variable: Any) -> Any:
            if not isinstance(variable, Literal):
                return known.get(variable)
            is_whole = np.ndim(variable.val) == 0 and np.asarray(variable.val).dtype.kind in "iu"
            return _Source("constant", int(variable.val)) if is_whole else None

        for eqn in jaxpr.eqns:
            into = [source_of(variable) for variable in eqn.invars]
            results = self._results(eqn, into) if any(into) else []
            known.update(zip(eqn.outvars, results, strict=False))
        return [source_of(variable) for variable in jaxpr.outvars]

    def _results(self, eqn: Any, into: list[Any]) -> list[Any]:
        """Return the sources of an operation's results, given the sources of its operands."""
        name, params = eqn.primitive.name, eqn.params
        if name in CALLS:
            inner: Any = next((value for value in params.values() if isinstance(value, ClosedJaxpr | Jaxpr)), None)
            body = getattr(inner, "jaxpr", inner)
            return self.read(body, into) if body is not None and len(body.invars) == len(into) else []
        if name == "scan":
            body = params["jaxpr"].jaxpr
            fixed = _n_scan_constants(eqn, body)
            self.read(body, [*into[:fixed], *[None] * (len(into) - fixed)])
            return []
        if name == "select_n":
            return [self._selected(into)]
        # Distributions compare sites with their support, which does not protect an index. So only arguments count.
        sources = [source for source in into if isinstance(source, _Source) and source.kind == "argument"]
        self.compared |= {source.key for source in sources if source.is_sign}
        if name == "lt" and isinstance(into[0], _Source) and _is_zero(eqn.invars[1]):
            return [replace(into[0], is_sign=True)]
        if name in COMPARISONS:
            self.compared |= {source.key for source in sources}
        elif name in SAME_NUMBERS:
            keeps = np.dtype(eqn.outvars[0].aval.dtype).kind in "iuf"
            return [into[0] if keeps else None]
        elif name in ("add", "sub"):
            return [_moved(name, eqn.invars, into)]
        elif name == "slice" and isinstance(into[0], _Source):
            return [_sliced(into[0], params, eqn.invars[0].aval.shape)]
        elif name == "concatenate" and all(into) and params["dimension"] == eqn.outvars[0].aval.ndim - 1:
            return [tuple(into)]
        elif name == "gather" and _accepts_unasked(params):
            axes = params["dimension_numbers"].start_index_map
            parts = _parts(into[1])
            # Densities of distributions are NaN for sites without a density; a kernel's own table is seldom filled so.
            if params["mode"].name != "FILL_OR_DROP" or not any(getattr(part, "kind", "") == "site" for part in parts):
                self._record_index(parts, axes, params["slice_sizes"], eqn.invars[0].aval.shape)
        elif name.startswith("scatter"):
            numbers, shape = params["dimension_numbers"], eqn.invars[0].aval.shape
            sizes = [1 if axis in numbers.inserted_window_dims else 0 for axis in range(len(shape))]
            self._record_index(_parts(into[1]), numbers.scatter_dims_to_operand_dims, sizes, shape)
        elif name == "dynamic_slice":
            self._record_index(into[1:], range(len(into) - 1), params["slice_sizes"], eqn.invars[0].aval.shape)
        return []

    def _selected(self, into: list[Any]) -> Any:
        """Return the source of a ``select_n``, if its cases are the same numbers.

        JAX adds the length of the axis to negative indices: there, one case has a larger offset.
        """
        which, *cases = into
        sources = set(cases) if all(isinstance(case, _Source) for case in cases) else set()
        one = min(sources, key=lambda source: source.offset, default=None)
        if one and sources != {one}:
            is_negative = isinstance(which, _Source) and which == replace(one, is_sign=True)
            if not is_negative or {replace(source, offset=one.offset) for source in sources} != {one}:
                one = None
        if isinstance(which, _Source) and which.kind == "argument" and (one is None or which.key != one.key):
            self.compared.add(which.key)
        return one

    def _record_index(
        self, parts: Sequence[Any], axes: Sequence[int], sizes: Sequence[int], shape: Sequence[int]
    ) -> None:
        if len(parts) != len(axes):
            return
        for source, axis in zip(parts, axes, strict=True):
            if isinstance(source, _Source) and not source.is_sign and sizes[axis] == 1:
                self.indexed.append((source, shape[axis]))


def _n_scan_constants(scan: Any, body: Any) -> int:
    """Return the number of constants, which are the first inputs of a scan.

    The parameter of JAX for this number has different names in different versions. The inputs that follow are those
    that each step passes on to the next, for which there are as many outputs, and those of which each step gets one
    entry. Entries have one axis less in the body than outside.
    """

    def whole(outside: Sequence[Any], inside: Sequence[Any]) -> int:
        return sum(here.aval.ndim == there.aval.ndim for here, there in zip(outside, inside, strict=True))

    return whole(scan.invars, body.invars) - whole(scan.outvars, body.outvars)


def _moved(name: str, operands: Sequence[Any], sources: Sequence[Any]) -> _Source | None:
    """Return the source of a sum or difference of numbers that have a source, and a constant whole number."""
    pairs = [(operands[1], sources[0]), (operands[0], sources[1])] if name == "add" else [(operands[1], sources[0])]
    for other, source in pairs:
        if isinstance(source, _Source) and isinstance(other, Literal):
            number = np.asarray(other.val)
            if number.ndim == 0 and np.isfinite(number) and number == int(number):
                return replace(source, offset=source.offset + (int(number) if name == "add" else -int(number)))
    return None


def _is_zero(variable: Any) -> bool:
    return isinstance(variable, Literal) and np.ndim(variable.val) == 0 and variable.val == 0


def _parts(source: Any) -> tuple[Any, ...]:
    """Return the sources of the numbers of an index, one for each axis that is indexed."""
    return source if isinstance(source, tuple) else (source,)


def _accepts_unasked(params: dict[str, Any]) -> bool:
    """Whether JAX takes another entry for an index out of range, or NaN, although the kernel did not ask for that."""
    mode, collapsed = params["mode"].name, params["dimension_numbers"].collapsed_slice_dims
    if mode == "FILL_OR_DROP":
        # JAX's own filling: NaN, or the least whole number.
        filling = params["fill_value"]
        return filling is None or filling != filling or filling < -(2**30)
    return mode == "PROMISE_IN_BOUNDS" or (mode == "CLIP" and not collapsed)


def _sliced(source: _Source, params: dict[str, Any], shape: tuple[int, ...]) -> _Source | None:
    """Return the source of a slice: of all columns, of one column, or None for several."""
    if source.n_axes == 1:
        return source
    start, stop = params["start_indices"][-1], params["limit_indices"][-1]
    if (start, stop) == (0, shape[-1]):
        return source
    is_column = source.n_axes == len(shape) == 2 and source.column is None and stop == start + 1
    return replace(source, column=start) if is_column else None


def check_index(what: str, array: np.ndarray, index: Index, n_rows: int, first: int | None = None) -> None:
    """Refuse an index that is out of range.

    Parameters
    ----------
    what : str
        Name of the array in messages.
    array : array of numbers
    index : Index
        How the kernel uses the array.
    n_rows : int
    first : int, optional
        Number of the first row, if the array has rows.
    """
    length = n_rows if index.length is None else index.length
    used = array if index.column is None or array.ndim < 2 else array[..., index.column]
    least, end = -index.offset, length - index.offset
    outside = (used < least) | (used >= end)
    if outside.any():
        row = "" if first is None else f" in row {first + int(np.argwhere(outside)[0, 0])}"
        move = f", {'plus' if index.offset > 0 else 'minus'} {abs(index.offset)}," if index.offset else ""
        named = "" if index.offset else ", or name them in `column_args` with 'categories'"
        raise ValueError(
            f"{what} holds {used[outside].flat[0]!s}{row}, but the kernel uses it{move} as an index of {length} "
            f"entries, which are numbered from {least} to {end - 1}. JAX would take another entry, or none. Number "
            f"groups from {least}{named}."
        )
