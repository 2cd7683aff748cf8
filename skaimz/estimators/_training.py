"""From the training data that a user passes to checked rows: in memory, or read a part at a time."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from sklearn.utils.validation import validate_data

from skaimz.estimators._arguments import check_weight
from skaimz.estimators._columns import check_numeric, split_columns
from skaimz.estimators._data import FLOATS, DataMixin
from skaimz.kernels import as_floats
from skaimz.rows.collections import dask_door, is_collection
from skaimz.rows.lazy import Column, LazyRows, check_numbers, columns_of, is_iterable_of_batches
from skaimz.rows.sources import Reader, loaded, open_table, opened, reads_in_parts, to_array
from skaimz.rows.spool import Scratch

__all__ = ["TrainingData", "TrainingMixin"]


class TrainingData(NamedTuple):
    """What a fit is given.

    Attributes
    ----------
    X, y : array-like, or something whose parts are read
    weight : array-like or None
    arrays : dict
        The kernel's further arguments.
    """

    X: Any
    y: Any
    weight: Any
    arrays: dict[str, Any]


class TrainingMixin(DataMixin):
    """Checks of training data."""

    param_output: str

    def _check_data(
        self, X: Any, y: Any, given: Collection[str], *, reset: bool
    ) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """Return checked rows, outcomes in the kernel's terms, and its arguments that are columns of X."""
        raise NotImplementedError

    def _outcome_reader(self, y: Any, dtype: Any, *, reset: bool) -> Reader:
        """Return how a part of y is brought into the kernel's terms."""
        raise NotImplementedError

    def _take_apart(self, data: TrainingData) -> TrainingData:
        """Return the arrays of an iterable of batches one by one; what is passed besides goes before them."""
        if not is_iterable_of_batches(data.X):
            return data
        columns = columns_of(data.X, self.param_input)
        X, y, weight = (columns.pop(name, None) for name in (self.param_input, self.param_output, "sample_weight"))
        return TrainingData(
            X,
            y if data.y is None else data.y,
            weight if data.weight is None else data.weight,
            {**columns, **data.arrays},
        )

    def _load(self, data: TrainingData, *, reset: bool, **checks: Any) -> TrainingData:
        """Return training data that are brought into memory and checked there."""
        whole = data.X.batches.load() if isinstance(data.X, Column) else {}

        def held(value: Any) -> Any:
            return whole[value.name] if isinstance(value, Column) else loaded(value)

        X, y, columns = self._check_data(held(data.X), held(data.y), data.arrays, reset=reset, **checks)
        weight = held(data.weight)
        if weight is not None:
            weight = check_weight(weight, X)
        return TrainingData(X, y, weight, {**columns, **{name: held(value) for name, value in data.arrays.items()}})

    def _open(self, data: TrainingData, scratch: Scratch, *, reset: bool, **checks: Any) -> TrainingData:
        """Return training data whose rows are read, and checked, a part at a time."""
        arrays = {name: _unless_in_parts(array) for name, array in data.arrays.items()}
        y, weight = map(_unless_in_parts, (data.y, data.weight))
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        if reset:
            self.categories_ = {}
        y = y if reads_in_parts(y) else to_array(y)
        if not y.shape:
            raise ValueError(f"y must have an entry for each row of X, got a single value: {y}.")
        dtype, table_reader, columns = self._check_columns(data.X, data.arrays, reset)
        read_outcome = self._outcome_reader(y, dtype, reset=reset, **checks)
        readers: dict[str, Reader] = {
            self.param_input: _numbers("X", dtype),
            self.param_output: read_outcome,
            "sample_weight": _weights(dtype),
        }
        given = {self.param_input: data.X, self.param_output: y, "sample_weight": weight, **arrays}
        of_table = {} if table_reader is None else open_table(data.X, table_reader, scratch)
        in_parts = {
            name: (value, readers.get(name, _numbers(f"Argument {name!r}")))
            for name, value in given.items()
            if reads_in_parts(value) and not (of_table and name == self.param_input)
        }
        found: dict[str, Any] = opened(in_parts, scratch)
        X: LazyRows = (of_table or found).pop(self.param_input)
        if table_reader is None and self.column_args is not None:
            known = None if reset else self.categories_
            X, columns, self.categories_ = self._split_columns(X, known, data.arrays, learn=False)
        if self.param_output not in found:
            found[self.param_output] = read_outcome(y, 0)
        if weight is not None and "sample_weight" not in found:
            weight = check_weight(weight, X)
        y, weight = found.pop(self.param_output), found.pop("sample_weight", weight)
        for name, rows in {self.param_output: y, "sample_weight": weight}.items():
            if rows is not None and len(rows) != len(X):
                raise ValueError(f"{name} has {len(rows)} rows, but X has {len(X)}.")
        return TrainingData(X, y, weight, {**columns, **of_table, **arrays, **found})

    def _check_columns(self, X: Any, given: Collection[str], reset: bool) -> tuple[Any, Any, dict[str, Any]]:
        """Check the columns of X, and return the precision of its rows and, for a table, how its parts are read.

        The last is what is known of arguments that are columns before they are read.
        """
        if len(X.shape) != 2:
            raise ValueError(f"X must have two dimensions, rows and columns, got {len(X.shape)}.")
        table = dask_door().table_of(X) if is_collection(X) else None
        if table is None:
            validate_data(self, np.empty((0, X.shape[1])), reset=reset, skip_check_array=True)
            return self._precision_of(X.dtype, reset), None, {}
        validate_data(self, table, reset=reset, skip_check_array=True)
        rest, columns = table, {}
        if self.column_args is not None:
            known = None if reset else self.categories_
            rest, found, self.categories_ = self._split_columns(table, known, given, learn=False)
            columns = {name: value for name, value in found.items() if not hasattr(value, "shape")}
        check_numeric([name for name, dtype in rest.dtypes.items() if not is_numeric_dtype(dtype)])
        dtype = self._precision_of(to_array(rest).dtype, reset)
        read, categories, names = _numbers("X", dtype), self.categories_, list(table.columns)

        def read_table(part: pd.DataFrame, start: int) -> Mapping[str, np.ndarray]:
            rest, arrays, _ = split_columns(part, self.column_args, categories, names)
            checked = {name: check_numbers(f"Argument {name!r}", array, start) for name, array in arrays.items()}
            return {self.param_input: read(to_array(rest), start), **checked}

        return dtype, read_table, columns

    def _precision_of(self, found: np.dtype, reset: bool) -> Any:
        """Return the type of rows that are of another one: as :meth:`_cast` does, and float64 where none is asked."""
        dtype = self.dtype if reset else self.arguments_["rows"][self.param_input][1]
        if dtype is None:
            return np.float32 if found == np.float32 else np.float64
        return FLOATS[dtype]


def _unless_in_parts(value: Any) -> Any:
    """Return what was given, in memory if it has no rows to be read a part at a time."""
    return value if reads_in_parts(value) else loaded(value)


def _numbers(name: str, dtype: Any = None) -> Reader:
    def read(part: np.ndarray, start: int) -> np.ndarray:
        part = check_numbers(name, part, start)
        return part if dtype is None else as_floats(name, part, dtype, start)

    return read


def _weights(dtype: Any) -> Reader:
    read = _numbers("sample_weight", dtype)

    def read_weights(part: np.ndarray, start: int) -> np.ndarray:
        part = read(part, start)
        if part.ndim != 1:
            raise ValueError(f"sample_weight must have one dimension, got {part.ndim}.")
        if (part < 0).any():
            raise ValueError(f"sample_weight must not be negative, but is in row {start + int(np.argmax(part < 0))}.")
        return part

    return read_weights
