"""From training data that a user passes to checked rows: in memory, or read a part at a time."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from sklearn.utils.validation import validate_data

from skaimz.estimators._arguments import check_weight
from skaimz.estimators._columns import check_numeric, culprits_named, split_columns
from skaimz.estimators._model import Model
from skaimz.estimators._outcomes import Outcome
from skaimz.estimators._read import FLOATS, read_training_table, split
from skaimz.kernels import as_floats
from skaimz.rows.collections import dask_door, is_collection
from skaimz.rows.lazy import Column, LazyRows, check_numbers, columns_of, is_iterable_of_batches
from skaimz.rows.sources import Reader, loaded, open_table, opened, reads_in_parts, to_array
from skaimz.rows.spool import Scratch

__all__ = ["Learner", "TrainingData"]


class TrainingData(NamedTuple):
    """What a fit is given.

    Attributes
    ----------
    X, y : array-like, or a source of rows that is read in parts
    weight : array-like or None
    arrays : dict
        The kernel's further arguments.
    """

    X: Any
    y: Any
    weight: Any
    arrays: dict[str, Any]

    def taken_apart(self, names: tuple[str, str]) -> "TrainingData":
        """Return the arrays of an iterable of mappings one by one. What is passed besides goes before them."""
        if not is_iterable_of_batches(self.X):
            return self
        columns = columns_of(self.X, names[0])
        X, y, weight = (columns.pop(name, None) for name in (*names, "sample_weight"))
        return TrainingData(
            X,
            y if self.y is None else self.y,
            weight if self.weight is None else self.weight,
            {**columns, **self.arrays},
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
        Whether the fit begins anew.
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
        whole = data.X.batches.load() if isinstance(data.X, Column) else {}

        def held(value: Any) -> Any:
            return whole[value.name] if isinstance(value, Column) else loaded(value)

        y = self.outcome.prepare(held(data.y))
        X, y, columns, self.categories = read_training_table(
            self.model, held(data.X), y, data.arrays, reset=self.reset, **self.outcome.checks
        )
        with culprits_named(X, y):
            self.outcome, y = self.outcome.learn(y, X.dtype, self.classes)
        weight = held(data.weight)
        if weight is not None:
            weight = check_weight(weight, X)
        return TrainingData(X, y, weight, {**columns, **{name: held(value) for name, value in data.arrays.items()}})

    def open(self, data: TrainingData, scratch: Scratch) -> TrainingData:
        """Return training data whose rows are read, and checked, a part at a time."""
        param_input, param_output = self.model.names
        arrays = {name: _unless_in_parts(array) for name, array in data.arrays.items()}
        y, weight = map(_unless_in_parts, (data.y, data.weight))
        if y is None:
            raise ValueError(f"{type(self.model.owner).__name__} requires y to be passed, but the target y is None.")
        y = y if reads_in_parts(y) else to_array(y)
        if not y.shape:
            raise ValueError(f"y must have an entry for each row of X, got a single value: {y}.")
        dtype, table_reader, columns = self._check_columns(data.X, data.arrays)
        self.outcome, read_outcome = self.outcome.learn_in_parts(y, dtype, self.classes)
        readers: dict[str, Reader] = {
            param_input: _numbers("X", dtype),
            param_output: read_outcome,
            "sample_weight": _weights(dtype),
        }
        given = {param_input: data.X, param_output: y, "sample_weight": weight, **arrays}
        of_table = {} if table_reader is None else open_table(data.X, table_reader, scratch)
        in_parts = {
            name: (value, readers.get(name, _numbers(f"Argument {name!r}")))
            for name, value in given.items()
            if reads_in_parts(value) and not (of_table and name == param_input)
        }
        found: dict[str, Any] = opened(in_parts, scratch)
        X: LazyRows = (of_table or found).pop(param_input)
        if table_reader is None:
            X, columns, self.categories = split(self.model, X, self._known, data.arrays, learn=False)
        if param_output not in found:
            found[param_output] = read_outcome(y, 0)
        if weight is not None and "sample_weight" not in found:
            weight = check_weight(weight, X)
        y, weight = found.pop(param_output), found.pop("sample_weight", weight)
        for name, rows in {param_output: y, "sample_weight": weight}.items():
            if rows is not None and len(rows) != len(X):
                raise ValueError(f"{name} has {len(rows)} rows, but X has {len(X)}.")
        return TrainingData(X, y, weight, {**columns, **of_table, **arrays, **found})

    @property
    def _known(self) -> Any:
        return None if self.reset else self.model.categories

    def _check_columns(self, X: Any, given: Collection[str]) -> tuple[Any, Any, dict[str, Any]]:
        """Check the columns of X, and return the precision of its rows and, for a table, how its parts are read.

        The last is what is known of arguments that are columns before they are read.
        """
        if len(X.shape) != 2:
            raise ValueError(f"X must have two dimensions, rows and columns, got {len(X.shape)}.")
        model, owner = self.model, self.model.owner
        table = dask_door().table_of(X) if is_collection(X) else None
        if table is None:
            validate_data(owner, np.empty((0, X.shape[1])), reset=self.reset, skip_check_array=True)
            return self._precision_of(X.dtype), None, {}
        validate_data(owner, table, reset=self.reset, skip_check_array=True)
        rest, columns, self.categories = split(model, table, self._known, given, learn=False)
        columns = {name: value for name, value in columns.items() if not hasattr(value, "shape")}
        check_numeric([name for name, dtype in rest.dtypes.items() if not is_numeric_dtype(dtype)])
        dtype = self._precision_of(to_array(rest).dtype)
        read, categories, names = _numbers("X", dtype), self.categories, list(table.columns)

        def read_table(part: pd.DataFrame, start: int) -> Mapping[str, np.ndarray]:
            rest, arrays, _ = split_columns(part, model.column_args, categories, names)
            checked = {name: check_numbers(f"Argument {name!r}", array, start) for name, array in arrays.items()}
            return {model.names[0]: read(to_array(rest), start), **checked}

        return dtype, read_table, columns

    def _precision_of(self, found: np.dtype) -> Any:
        """Return the type of rows that are of another one: float64 unless another is set."""
        dtype = self.model.dtype if self.reset else self.model.arguments["rows"][self.model.names[0]][1]
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
