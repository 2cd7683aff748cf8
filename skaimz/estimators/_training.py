"""From the training data that a user passes to checked rows, in memory or read piece by piece."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from sklearn.utils.validation import validate_data

from skaimz.estimators._arguments import check_names_of_arguments, check_weight
from skaimz.estimators._columns import check_numeric, split_columns
from skaimz.estimators._data import FLOATS, DataMixin
from skaimz.kernels import as_floats
from skaimz.rows import (
    Reader,
    RowSource,
    Scratch,
    check_numbers,
    fields_of,
    loaded,
    loaded_together,
    open_array,
    open_source,
    spooled,
    spooled_table,
    to_array,
)

__all__ = ["TrainingData", "TrainingMixin"]


class TrainingData(NamedTuple):
    """Training data: as the user passed them, or checked.

    Attributes
    ----------
    X, y : array-like, RowSource or LazyRows
    weight : array-like, RowSource, LazyRows or None
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
        """Return the rows, the outcomes as numbers that the kernel observes, and the arguments that are columns."""
        raise NotImplementedError

    def _outcome_reader(self, y: Any, dtype: Any, *, reset: bool) -> Reader:
        """Return a function that converts rows of y to the numbers that the kernel observes."""
        raise NotImplementedError

    def _take_apart(self, data: TrainingData) -> TrainingData:
        """Return training data in which the arrays that come together in X are separate.

        An array that is passed by itself replaces one of the same name that comes with X.
        """
        source = open_source(data.X)
        if source is None or not source.has_fields:
            return data
        fields = fields_of(source, self.param_input)
        X, y, weight = (fields.pop(name, None) for name in (self.param_input, self.param_output, "sample_weight"))
        return TrainingData(
            X,
            y if data.y is None else data.y,
            weight if data.weight is None else data.weight,
            {**fields, **data.arrays},
        )

    def _load(self, data: TrainingData, *, reset: bool, **checks: Any) -> TrainingData:
        """Return training data that are brought into memory and checked there."""
        X, y, weight, *arrays = loaded_together([data.X, data.y, data.weight, *data.arrays.values()])
        X, y, columns = self._check_data(X, y, data.arrays, reset=reset, **checks)
        if weight is not None:
            weight = check_weight(weight, X)
        return TrainingData(X, y, weight, {**columns, **dict(zip(data.arrays, arrays, strict=True))})

    def _open(self, data: TrainingData, scratch: Scratch, *, reset: bool, **checks: Any) -> TrainingData:
        """Return training data whose rows are checked as they are read, piece by piece; X must come in pieces."""
        check_names_of_arguments(data.arrays, self.param_input, self.param_output)
        if data.y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        if reset:
            self.categories_ = {}
        values = {self.param_input: data.X, self.param_output: data.y, "sample_weight": data.weight, **data.arrays}
        sources = {name: source for name, value in values.items() if (source := open_array(value)) is not None}
        arrays = {name: loaded(value) for name, value in values.items() if name not in sources}
        weight = arrays.pop("sample_weight", None)
        y: Any = sources.get(self.param_output)
        y = to_array(arrays.pop(self.param_output)) if y is None else y
        if not y.shape:
            raise ValueError(f"y must have an entry for each row of X, got a single value: {y}.")
        dtype, read_table, columns = self._check_columns(sources[self.param_input], data.arrays, reset)
        readers = {
            self.param_input: _numbers("X", dtype),
            self.param_output: self._outcome_reader(y, dtype, reset=reset, **checks),
            "sample_weight": _weights(dtype),
        }
        if read_table is not None:
            columns |= spooled_table(sources.pop(self.param_input), read_table, scratch)
            X = columns.pop(self.param_input)
        rows: dict[str, Any] = spooled(
            {name: (source, readers.get(name, _numbers(f"Argument {name!r}"))) for name, source in sources.items()},
            scratch,
        )
        if read_table is None:
            X = rows.pop(self.param_input)
            if self.column_args is not None:
                known = None if reset else self.categories_
                X, columns, self.categories_ = self._split_columns(X, known, data.arrays, learn=False)
        y = rows.pop(self.param_output) if self.param_output in rows else readers[self.param_output](y, 0)
        weight = rows.pop("sample_weight", None if weight is None else check_weight(weight, X))
        for name, array in {self.param_output: y, "sample_weight": weight}.items():
            if array is not None and len(array) != len(X):
                raise ValueError(f"{name} has {len(array)} rows, but X has {len(X)}.")
        return TrainingData(X, y, weight, {**columns, **arrays, **rows})

    def _check_columns(
        self, X: RowSource, names: Collection[str], reset: bool
    ) -> tuple[Any, Callable[[pd.DataFrame, int], Mapping[str, np.ndarray]] | None, dict[str, Any]]:
        """Check the columns of X before its rows are read.

        Parameters
        ----------
        X : RowSource
        names : collection of str
            Names of the arguments that the user passes.
        reset : bool
            Whether the fit starts anew.

        Returns
        -------
        dtype : type
            Precision of the input.
        read_table : callable or None
            Makes the input, and the arguments that are columns, from a piece of a table; None if X is no table.
        columns : dict
            Arguments that follow from the columns of a table alone, such as numbers of categories.
        """
        if X.ndim != 2:
            raise ValueError(f"X must have two dimensions, rows and columns, got {X.ndim}.")
        table = X.table
        if table is None:
            validate_data(self, np.empty((0, X.shape[1])), reset=reset, skip_check_array=True)
            return self._precision_of(X.dtype, reset), None, {}
        validate_data(self, table, reset=reset, skip_check_array=True)
        rest, columns = table, {}
        if self.column_args is not None:
            known = None if reset else self.categories_
            rest, arguments, self.categories_ = self._split_columns(table, known, names, learn=False)
            columns = {name: value for name, value in arguments.items() if np.ndim(value) == 0}
        check_numeric([name for name, dtype in rest.dtypes.items() if not is_numeric_dtype(dtype)])
        dtype = self._precision_of(to_array(rest).dtype, reset)
        read, categories, columns_of_table = _numbers("X", dtype), self.categories_, list(table.columns)

        def read_table(piece: pd.DataFrame, start: int) -> Mapping[str, np.ndarray]:
            rest, arguments, _ = split_columns(piece, self.column_args, categories, columns_of_table)
            checked = {name: check_numbers(f"Argument {name!r}", array, start) for name, array in arguments.items()}
            return {self.param_input: read(to_array(rest), start), **checked}

        return dtype, read_table, columns

    def _precision_of(self, dtype: np.dtype, reset: bool) -> Any:
        """Return the type of floats for X: that of the estimator, of the fit that goes on, or of the stored rows."""
        precision = self.dtype if reset else self.arguments_["rows"][self.param_input][1]
        if precision is None:
            return np.float32 if dtype == np.float32 else np.float64
        return FLOATS[precision]


def _numbers(name: str, dtype: Any = None) -> Reader:
    """Return a reader of finite numbers, as floats of a type if there is one."""

    def read(rows: np.ndarray, start: int) -> np.ndarray:
        numbers = check_numbers(name, rows, start)
        return numbers if dtype is None else as_floats(name, numbers, dtype, start)

    return read


def _weights(dtype: Any) -> Reader:
    """Return a reader of the weights of rows."""
    read = _numbers("sample_weight", dtype)

    def read_weights(rows: np.ndarray, start: int) -> np.ndarray:
        weights = read(rows, start)
        if weights.ndim != 1:
            raise ValueError(f"sample_weight must have one dimension, got {weights.ndim}.")
        if (weights < 0).any():
            row = start + int(np.argmax(weights < 0))
            raise ValueError(f"sample_weight must not be negative, but is in row {row}.")
        return weights

    return read_weights
