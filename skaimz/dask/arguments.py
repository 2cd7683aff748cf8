"""Arguments of a call, told apart before they are cut: those of the rows, and those that every block gets whole."""

import copy
import inspect
from collections.abc import Collection, Mapping
from typing import Any

import dask
import dask.array as da
import numpy as np
import zarr

from skaimz.dask.rows import Rows, has_rows, table_of
from skaimz.kernels import KernelSpec, flattened
from skaimz.sampling import value_row_axis

__all__ = ["between", "by_row"]

# Parameters of methods that have entries for each row, and those that set sites, which may have them. All others but
# scenarios are settings, and never cut.
OF_ROWS = ("y", "sample_weight", "where", "by")
OF_SITES = ("intervention", "condition")


def by_row(estimator: Any, method: str, X: Any, arguments: Mapping[str, Any]) -> tuple[Rows, Any, dict[str, Any]]:
    """Return rows and arguments that can be cut, and an estimator that knows of all blocks what it would ask one."""
    rows = Rows(X)
    if not rows.n_rows:
        raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required: X has no rows.")
    # A kernel's argument may have the name under which a method collects all of them.
    parameters = set(inspect.signature(getattr(estimator, method)).parameters) - {"arrays"}
    opener = _Opener(estimator, rows)
    opener.learn_categories(X, arguments)
    arrays = {name: opener.argument(name, value) for name, value in arguments.items() if name not in parameters}
    asked = {name: value for name, value in arguments.items() if name in parameters}
    for name, value in asked.items():
        if name in OF_ROWS:
            are_names = name == "by" and isinstance(value, list | tuple)
            asked[name] = value if are_names else opener.of_rows(name, value)
        elif name in OF_SITES:
            asked[name] = opener.site_values(name, value, arrays)
        elif name == "baseline":
            asked[name] = opener.scenario(value, arrays)
        elif name == "scenarios" and isinstance(value, Mapping):
            asked[name] = {key: opener.scenario(changes, arrays) for key, changes in value.items()}
    return rows, opener.estimator, {**asked, **arrays}


class _Opener:
    """What turns arguments of a call that have an entry for each row into rows that can be cut.

    Attributes
    ----------
    estimator : NumPyroImpactRegressor or NumPyroImpactClassifier
        One that knows of each argument whether it has rows. Otherwise a block that happens to have as many rows as
        some whole array has entries would take it for one of rows.
    """

    def __init__(self, estimator: Any, rows: Rows):
        known = getattr(estimator, "arguments_", {})
        self.estimator = copy.copy(estimator)
        self.estimator.arguments_ = {kind: dict(known.get(kind, {})) for kind in ("rows", "whole", "static")}
        self._rows = rows

    def learn_categories(self, X: Any, given: Collection[str]) -> None:
        """Find what categories columns have, where no fit has told; blocks would each find others."""
        if self.estimator.column_args is not None and not hasattr(self.estimator, "categories_"):
            table = table_of(X)
            like = np.empty((0, *X.shape[1:]), X.dtype) if table is None else table
            *_, self.estimator.categories_ = self.estimator._split_columns(like, None, given, learn=False)

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
        known, value = self.estimator.arguments_, _opened(value)
        if not _has_entries(name, value):
            return value
        if name not in known["whole"]:
            rows = Rows(value)
            if rows.n_rows == self._rows.n_rows:
                known["rows"].setdefault(name)
                return rows
            if name in known["rows"] or name == self.estimator.param_input:
                self._check_length(name, rows.n_rows)
            known["whole"][name] = None
        return value.compute() if dask.is_dask_collection(value) else value

    def site_values(self, argument: str, values: Any, arrays: Mapping[str, Any]) -> Any:
        """Return values of sites, of which the kernel's sites tell which have rows."""
        if not isinstance(values, Mapping) or not values:
            return values
        X, here = dask.compute(self._rows.between(0, 1), between(arrays, 0, 1))
        spec = self.estimator._described(X, here)
        return {name: self._site_value(spec, argument, name, _opened(value)) for name, value in values.items()}

    def scenario(self, changes: Any, arrays: Mapping[str, Any]) -> Any:
        """Return the changes of a scenario; what is none of these is the method's to refuse."""
        is_one = isinstance(changes, Mapping) and {"columns", "arguments", *OF_SITES}.issuperset(changes)
        if not is_one or not all(isinstance(values, Mapping) for values in changes.values()):
            return changes
        opened = {name: self.argument(name, value) for name, value in flattened(changes.get("arguments", {})).items()}
        moved = {name: value for name, value in opened.items() if not callable(value)}
        moved.pop(self.estimator.param_input, None)
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


def between(value: Any, start: int, stop: int) -> Any:
    """Cut what can be cut."""
    if isinstance(value, Rows):
        return value.between(start, stop)
    return {key: between(each, start, stop) for key, each in value.items()} if isinstance(value, dict) else value
