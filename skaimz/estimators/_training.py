"""From the training data that a user passes to checked rows, in memory or read piece by piece."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from sklearn.utils.validation import validate_data

from skaimz.estimators._arguments import check_names_of_arguments, check_weight
from skaimz.estimators._columns import check_numeric, culprits_named, split_columns
from skaimz.estimators._input import check_row_shape, keeps_whole, whole_type
from skaimz.estimators._model import Model
from skaimz.estimators._outcomes import Outcome
from skaimz.estimators._read import read_training_table, split
from skaimz.kernels import as_floats, float_type
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

__all__ = ["Learner", "TrainingData"]


@dataclass(frozen=True)
class TrainingData:
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
    arrays: Mapping[str, Any]

    def with_arrays(self, arrays: Mapping[str, Any]) -> "TrainingData":
        """Return the data with other arguments."""
        return replace(self, arrays=arrays)

    def taken_apart(self, names: tuple[str, str]) -> "TrainingData":
        """Return the data with arrays that come together in X as separate ones.

        An array that is passed by itself replaces one of the same name that comes with X.
        """
        source = open_source(self.X)
        if source is None or not source.has_fields:
            return self
        fields = fields_of(source, names[0])
        X, y, weight = (fields.pop(name, None) for name in (*names, "sample_weight"))
        return TrainingData(
            X,
            y if self.y is None else self.y,
            weight if self.weight is None else self.weight,
            {**fields, **self.arrays},
        )


@dataclass
class Learner:
    """Checks of training data, and what they learn of columns and outcomes.

    Attributes
    ----------
    model : Model
        Of the estimator before the fit.
    outcome : Outcome
        How outcomes are coded; learned by the checks.
    reset : bool
        Whether the fit starts anew.
    classes : array-like, or list of them, optional
        Labels that the user names.
    categories : dict
        Categories of arguments that are columns of X; learned by the checks.
    """

    model: Model
    outcome: Outcome
    reset: bool
    classes: Any = None

    def __post_init__(self) -> None:
        self.categories: dict[str, Any] = {} if self.reset else dict(self.model.categories or {})

    def load(self, data: TrainingData) -> TrainingData:
        """Return training data that are brought into memory and checked there."""
        X, y, weight, *arrays = loaded_together([data.X, data.y, data.weight, *data.arrays.values()])
        checks = dict(self.outcome.checks)
        if self._allows_missing and y is not None:
            y, checks["ensure_all_finite"] = to_array(y), "allow-nan"
        X, y, columns, self.categories = read_training_table(
            self.model, X, self.outcome.prepare(y), data.arrays, reset=self.reset, **checks
        )
        dtype = self._precision_of(X.dtype)
        with culprits_named(X, y):
            self.outcome, y = self.outcome.learn(y, dtype, self.classes, allow_missing=self._allows_missing)
        if weight is not None:
            weight = check_weight(weight, X, dtype)
        return TrainingData(X, y, weight, {**columns, **dict(zip(data.arrays, arrays, strict=True))})

    def open(self, data: TrainingData, scratch: Scratch) -> TrainingData:
        """Return training data whose rows are checked as they are read, piece by piece; X must come in pieces."""
        param_input, param_output = names = self.model.names
        check_names_of_arguments(data.arrays, *names)
        if data.y is None:
            raise ValueError(f"{type(self.model.owner).__name__} requires y to be passed, but the target y is None.")
        values = {param_input: data.X, param_output: data.y, "sample_weight": data.weight, **data.arrays}
        sources = {name: source for name, value in values.items() if (source := open_array(value)) is not None}
        arrays = {name: loaded(value) for name, value in values.items() if name not in sources}
        weight = arrays.pop("sample_weight", None)
        y: Any = sources.get(param_output)
        y = to_array(arrays.pop(param_output)) if y is None else y
        if not y.shape:
            raise ValueError(f"y must have an entry for each row of X, got a single value: {y}.")
        dtype, read_table, columns = self._check_columns(sources[param_input], data.arrays)
        self.outcome, read_outcome = self.outcome.learn_in_parts(
            y, dtype, self.classes, allow_missing=self._allows_missing
        )
        stored = sources[param_input].dtype
        readers = {
            param_input: self._input_reader(stored, dtype),
            param_output: read_outcome,
            "sample_weight": _weights(dtype),
        }
        if read_table is not None:
            columns |= spooled_table(sources.pop(param_input), read_table, scratch)
            X = columns.pop(param_input)
        rows: dict[str, Any] = spooled(
            {
                name: (source, readers.get(name, _numbers(f"Argument {name!r}", allow_nan=self.model.allow_nan)))
                for name, source in sources.items()
            },
            scratch,
        )
        if read_table is None:
            X = rows.pop(param_input)
            X, columns, self.categories = split(self.model, X, self._known, data.arrays, learn=False)
        y = rows.pop(param_output) if param_output in rows else read_outcome(y, 0)
        weight = rows.pop("sample_weight", None if weight is None else check_weight(weight, X, dtype))
        for name, array in {param_output: y, "sample_weight": weight}.items():
            if array is not None and len(array) != len(X):
                raise ValueError(f"{name} has {len(array)} rows, but X has {len(X)}.")
        return TrainingData(X, y, weight, {**columns, **arrays, **rows})

    @property
    def _allows_missing(self) -> bool:
        return self.model.missing_outcomes != "error"

    @property
    def _known(self) -> Any:
        """Categories of a fit that goes on."""
        return None if self.reset else self.model.categories

    def _check_columns(
        self, X: RowSource, names: Collection[str]
    ) -> tuple[Any, Callable[[pd.DataFrame, int], Mapping[str, np.ndarray]] | None, dict[str, Any]]:
        """Check the columns of X before its rows are read.

        Parameters
        ----------
        X : RowSource
        names : collection of str
            Names of the arguments that the user passes.

        Returns
        -------
        dtype : type
            Precision of the input.
        read_table : callable or None
            Makes the input, and the arguments that are columns, from a piece of a table; None if X is no table.
        columns : dict
            Arguments that follow from the columns of a table alone, such as numbers of categories.
        """
        model, table = self.model, X.table
        if X.ndim != 2 and model.owner.kernel is None:
            raise ValueError(f"X must have two dimensions, rows and columns, got {X.ndim}.")
        if self.reset:
            vars(model.owner).pop("n_features_in_", None)
        else:
            check_row_shape(model, X.shape)
        like = np.empty((0, *X.shape[1:])) if table is None else table
        validate_data(model.owner, like, reset=self.reset, skip_check_array=True)
        if table is None:
            return self._precision_of(X.dtype), None, {}
        rest, arguments, self.categories = split(model, table, self._known, names, learn=False)
        columns = {name: value for name, value in arguments.items() if np.ndim(value) == 0}
        check_numeric([name for name, dtype in rest.dtypes.items() if not is_numeric_dtype(dtype)])
        whole, dtype = whole_type(rest), self._precision_of(to_array(rest).dtype)
        read, categories, columns_of_table = self._input_reader(whole, dtype), self.categories, list(table.columns)

        def read_table(piece: pd.DataFrame, start: int) -> Mapping[str, np.ndarray]:
            rest, arguments, _ = split_columns(piece, model.column_args, categories, columns_of_table)
            checked = {
                name: check_numbers(f"Argument {name!r}", array, start, allow_nan=model.allow_nan)
                for name, array in arguments.items()
            }
            rows = to_array(rest) if whole is None else rest.to_numpy(whole)
            return {model.names[0]: read(rows, start), **checked}

        return dtype, read_table, columns

    def _precision_of(self, dtype: np.dtype) -> Any:
        """Return the type of floats for X: that of the estimator, of the fit that goes on, or of the stored rows."""
        return (self.model.dtype or float_type(dtype)) if self.reset else self.model.precision

    def _input_reader(self, stored: np.dtype | None, precision: Any) -> Reader:
        """Return a reader of X, whose rows are stored in a type; None for floats."""
        if stored is None or not keeps_whole(self.model, stored, reset=self.reset):
            return _numbers("X", precision, allow_nan=self.model.allow_nan)
        dtype = stored.newbyteorder("=")
        return lambda rows, start: check_numbers("X", rows, start, precision).astype(dtype, copy=False)


def _numbers(name: str, dtype: Any = None, *, allow_nan: bool = False) -> Reader:
    """Return a reader of finite numbers, as floats of a type if there is one."""

    def read(rows: np.ndarray, start: int) -> np.ndarray:
        numbers = check_numbers(name, rows, start, allow_nan=allow_nan)
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
