"""Sorts the arguments of a call into those that are cut with the rows, and those that every block gets whole."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import dask
import dask.array as da
import numpy as np
import zarr

from skaimz.dask.rows import Rows, has_rows, table_of
from skaimz.kernels import KernelSpec, flattened, within
from skaimz.sampling import value_row_axis

__all__ = ["by_row", "rows_between", "with_rows", "without_rows"]

# Parameters of methods that have entries for each row, and those that set sites, which may have them. All others but
# scenarios are settings, and never cut.
OF_ROWS = ("y", "sample_weight", "where", "by")
OF_SITES = ("intervention", "condition")


def by_row(request: Any, X: Any) -> tuple[Rows, Any]:
    """Return rows that can be cut, and a request whose arguments can be cut likewise.

    The request knows of each argument whether it has rows. Otherwise a block that happens to have as many rows as a
    whole array has entries would take that for an argument with rows.
    """
    rows = Rows(X)
    if not rows.n_rows:
        raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required: X has no rows.")
    table = table_of(X)
    request = request.with_categories_of(np.empty((0, *X.shape[1:]), X.dtype) if table is None else table)
    opener = _Opener(request, rows)
    arrays = {name: opener.argument(name, value) for name, value in request.arrays.items()}
    question = opener.question(request.question, arrays)
    model = dataclasses.replace(request.model, arguments=opener.known)
    return rows, dataclasses.replace(request, model=model, question=question, arrays=arrays)


class _Opener:
    """Turns arguments of a call that have an entry for each row into rows that can be cut.

    Attributes
    ----------
    known : dict of str to dict
        How each argument is classified.
    """

    def __init__(self, request: Any, rows: Rows):
        arguments = request.model.arguments
        sorted_here = {kind: dict(arguments.get(kind, {})) for kind in ("rows", "whole", "static")}
        self.known: dict[str, Any] = {**arguments, **sorted_here}
        self.known["whole"] |= dict.fromkeys(request.model.whole_args)
        self._request, self._rows = request, rows

    def question(self, question: Any, arrays: Mapping[str, Any]) -> Any:
        """Return a question whose fields can be cut."""
        return dataclasses.replace(
            question,
            **{
                field.name: self._field(field.name, getattr(question, field.name), arrays)
                for field in dataclasses.fields(question)
            },
        )

    def _field(self, name: str, value: Any, arrays: Mapping[str, Any]) -> Any:
        if dataclasses.is_dataclass(value):
            return self.question(value, arrays)
        if name in OF_ROWS:
            are_names = name == "by" and isinstance(value, list | tuple)
            return value if are_names else self.of_rows(name, value)
        if name in OF_SITES:
            return self.site_values(name, value, arrays)
        if name == "baseline":
            return self.scenario(value, arrays)
        if name == "scenarios" and isinstance(value, Mapping):
            return {key: self.scenario(changes, arrays) for key, changes in value.items()}
        return value

    def of_rows(self, name: Any, value: Any) -> Any:
        """Return what has an entry for each row, or one for all; a mapping may hold several."""
        if isinstance(value, Mapping):
            return {key: self.of_rows(key, each) for key, each in value.items()}
        value = _opened(value)
        if not _has_entries(name, value):
            return value
        rows = Rows(value)
        self._check_length(name, rows.n_rows)
        return rows

    def argument(self, name: str, value: Any) -> Any:
        """Return one of the kernel's arguments, told as in memory from what is known and from lengths."""
        known, value = self.known, _opened(value)
        if not _has_entries(name, value):
            return value
        if not within(name, known["whole"]):
            rows = Rows(value)
            if rows.n_rows == self._rows.n_rows:
                known["rows"].setdefault(name)
                return rows
            if name in known["rows"] or name == self._request.model.names[0]:
                self._check_length(name, rows.n_rows)
            known["whole"][name] = None
        return value.compute() if dask.is_dask_collection(value) else value

    def site_values(self, argument: str, values: Any, arrays: Mapping[str, Any]) -> Any:
        """Return values of sites, of which the kernel's sites tell which have rows."""
        if not isinstance(values, Mapping) or not values:
            return values
        X, parts = dask.compute(self._rows.between(0, 1), rows_between(dict(arrays), 0, 1))
        model = dataclasses.replace(self._request.model, arguments=self.known)
        here = with_rows(without_rows(dict(arrays)), parts)
        spec = dataclasses.replace(self._request, model=model, arrays=here).read(X).spec
        return {name: self._site_value(spec, argument, name, _opened(value)) for name, value in values.items()}

    def scenario(self, changes: Any, arrays: Mapping[str, Any]) -> Any:
        """Return the changes of a scenario; what is none of these is the method's to refuse."""
        is_one = isinstance(changes, Mapping) and {"columns", "arguments", *OF_SITES}.issuperset(changes)
        if not is_one or not all(isinstance(values, Mapping) for values in changes.values()):
            return changes
        opened = {name: self.argument(name, value) for name, value in flattened(changes.get("arguments", {})).items()}
        moved = {name: value for name, value in opened.items() if not callable(value)}
        moved.pop(self._request.model.names[0], None)
        found: dict[str, Any] = {}
        for key, values in changes.items():
            if key == "arguments":
                found[key] = opened
            elif key == "columns":
                found[key] = self.of_rows(key, values)
            else:
                found[key] = self.site_values(key, values, {**arrays, **moved})
        return found

    def _site_value(self, spec: KernelSpec, argument: str, name: str, value: Any) -> Any:
        is_lazy = dask.is_dask_collection(value)
        if not is_lazy:
            value = np.asarray(value)
        elif hasattr(value, "to_dask_array"):
            value = value.to_dask_array(lengths=True)
        elif np.isnan(value.shape).any():
            value = value.compute_chunk_sizes()
        axis = value_row_axis(spec, argument, name, value.shape, self._rows.n_rows)
        if axis is None:
            return value.compute() if is_lazy else value
        return Rows(value, axis)

    def _check_length(self, name: Any, length: int) -> None:
        if length != self._rows.n_rows:
            raise ValueError(f"Argument {name!r} has {length} rows, but X has {self._rows.n_rows}.")


def _opened(value: Any) -> Any:
    """Return what was given as a collection if it has rows that are not in memory, and computed if it has none."""
    if isinstance(value, zarr.Array):
        value = da.from_zarr(value) if value.ndim else value[()]
    return value.compute() if dask.is_dask_collection(value) and not has_rows(value) else value


def _has_entries(name: Any, value: Any) -> bool:
    try:
        return dask.is_dask_collection(value) or np.ndim(value) > 0
    except ValueError as error:
        raise ValueError(f"Argument {name!r} is not an array: its parts have unequal lengths.") from error


def without_rows(value: Any) -> Any:
    """Return nested mappings and dataclasses in which None replaces rows."""
    if isinstance(value, Rows):
        return None
    if isinstance(value, dict):
        return {key: without_rows(entry) for key, entry in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **{name: without_rows(entry) for name, entry in _entries(value).items()})
    return value


def rows_between(value: Any, start: int, stop: int) -> Any:
    """Return the rows in a nest, delayed, as nested mappings of nothing else; None where there are none."""
    if isinstance(value, Rows):
        return value.between(start, stop)
    parts = {name: rows_between(entry, start, stop) for name, entry in _entries(value).items()}
    return {name: part for name, part in parts.items() if part is not None} or None


def with_rows(value: Any, parts: Any) -> Any:
    """Return a nest with the computed parts of :func:`rows_between` in their places."""
    entries = _entries(value)
    if parts is None or not entries:
        return value if parts is None else parts
    changes = {name: with_rows(entries[name], part) for name, part in parts.items()}
    return {**value, **changes} if isinstance(value, dict) else dataclasses.replace(value, **changes)


def _entries(value: Any) -> dict[Any, Any]:
    if isinstance(value, dict):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {}
