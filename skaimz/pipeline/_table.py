"""The table of rows that a user passes to a Pipeline: its columns are read and replaced."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from skaimz.estimators import Columns, applied, check_order
from skaimz.kernels import numbers_in, plain_array
from skaimz.rows import as_table, is_collection

__all__ = ["Table"]


class Table:
    """Rows in memory, with columns by name or position.

    Parameters
    ----------
    X : data frame or array-like of shape (n_rows, n_features)
    names : sequence of str, optional
        Names of the columns of an array.

    Attributes
    ----------
    rows : data frame or array
    columns : Columns
        Finds columns; each belongs to the input.
    """

    def __init__(self, X: Any, names: Any = None):
        if X is None:
            raise ValueError("Effects and slopes need rows: pass X.")
        if is_collection(X):
            raise TypeError("Rows of a Pipeline must be in memory, got a Dask collection: pass `X.compute()`.")
        self.rows: Any = as_table(X) if hasattr(X, "shape") else np.asarray(X, dtype=object)
        self.columns = Columns(self.rows, None, names, {})

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.rows.shape[0]

    @property
    def index(self) -> pd.Index | None:
        """Labels of the rows of a data frame."""
        return self.rows.index if hasattr(self.rows, "iloc") else None

    def has(self, column: Any) -> bool:
        """Whether there is a column of this name or position."""
        try:
            self.columns.home(column)
        except (TypeError, ValueError):
            return False
        return True

    def series(self, column: Any, what: str) -> Any:
        """Return a column as the user passed it; error messages say that ``what`` names it."""
        return self.columns.series(column, what)

    def new_values(self, column: Any, value: Any) -> np.ndarray:
        """Return what a scenario sets a column to, one value for each row.

        Parameters
        ----------
        column : str or int
        value : object
            A value, one for each row, or a function of the current values.
        """
        present = self.columns.values(column)
        value = applied(value, present, f"column {column!r}") if callable(value) else value
        check_order(f"A scenario's value for column {column!r}", value, self.rows)
        values = plain_array(value)
        if values.shape not in ((), (self.n_rows,)):
            raise ValueError(
                f"A scenario gives column {column!r} the shape {values.shape}: it must be one value, or one for each "
                f"of the {self.n_rows} rows."
            )
        if _is_text(present):
            _check_text(column, values)
        return np.broadcast_to(values, self.n_rows)

    def replaced(self, new: Mapping[Any, np.ndarray]) -> Any:
        """Return the rows with other values in some columns, which keep their type where it holds these values."""
        rows = self.rows
        for column, values in new.items():
            before = self.series(column, "A scenario")
            if isinstance(before, pd.Series):
                values = _as_before(column, values, before)
            elif isinstance(before, np.ndarray):
                values = _numbers_as_before(values, before.dtype)
            else:
                values = _as_before_in_polars(column, values, before)
            rows = _put(rows, self._place(column), values)
        return rows

    def with_floats(self, column: Any, values: np.ndarray) -> Any:
        """Return the rows with floats in a column, whatever its type."""
        return _put(self.rows, self._place(column), values)

    def _place(self, column: Any) -> int:
        _, place = self.columns.home(column)
        assert place is not None
        return place


def _put(rows: Any, place: int, values: Any) -> Any:
    """Return rows with other values in a column; the rows themselves do not change."""
    if hasattr(rows, "iloc"):
        rows = rows.copy(deep=False)
        rows.isetitem(place, pd.Series(values, rows.index))
        return rows
    if hasattr(rows, "with_columns"):  # a data frame of polars
        before = rows[:, place]
        return rows.with_columns(type(before)(before.name, values))
    rows = np.array(rows, object if rows.dtype == object else np.result_type(rows.dtype, values.dtype))
    rows[:, place] = values
    return rows


def _as_before(column: Any, values: np.ndarray, before: pd.Series) -> pd.Series:
    """Return new values of a column of a data frame in its type, or in a wider one for numbers."""
    numbers = numbers_in(values)
    if pd.api.types.is_numeric_dtype(before.dtype):
        if numbers is None:
            raise ValueError(f"A scenario gives column {column!r}, which holds numbers, the value {str(values[0])!r}.")
        return pd.Series(_numbers_as_before(numbers, before.dtype), before.index)
    series = pd.Series(values, before.index).infer_objects()
    if isinstance(before.dtype, pd.CategoricalDtype):
        known = before.dtype.categories
        unknown = series[series.notna() & ~series.isin(known)]
        if len(unknown):
            raise ValueError(
                f"A scenario gives column {column!r} the value {unknown.iloc[0]!r}, which is none of its categories: "
                f"{known.tolist()}."
            )
    try:
        return series.astype(before.dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"A scenario gives column {column!r}, which has the type {before.dtype}, the value {str(values[0])!r}."
        ) from error


def _as_before_in_polars(column: Any, values: np.ndarray, before: Any) -> Any:
    """Return new values of a column of a data frame of polars in its type, or in a wider one for numbers."""
    new = type(before)(before.name, values.tolist() if values.dtype.kind == "O" else values)
    if before.dtype.is_numeric() and new.dtype.is_numeric():
        # A missing integer came as NaN.
        new = new.fill_nan(None) if before.dtype.is_integer() else new
        kept = new.cast(before.dtype, strict=False)
        return kept if kept.eq_missing(new).all() else new
    try:
        return new.cast(before.dtype)
    except Exception as error:  # those of polars have no base that is imported without it
        raise ValueError(
            f"A scenario gives column {column!r}, which has the type {before.dtype}, the value {str(values[0])!r}."
        ) from error


def _is_text(values: np.ndarray) -> bool:
    """Whether all values that are not missing are text."""
    if values.dtype.kind != "O":
        return values.dtype.kind == "U"
    known = values[~pd.isna(values)]
    return len(known) > 0 and all(isinstance(each, str) for each in known)


def _check_text(column: Any, values: np.ndarray) -> None:
    """Refuse new values of a column of text that are not text, or missing."""
    if values.dtype.kind == "U":
        return
    known = np.atleast_1d(values)[~np.atleast_1d(pd.isna(values))]
    wrong = [each for each in known.tolist() if not isinstance(each, str)]
    if wrong:
        raise ValueError(
            f"A scenario gives column {column!r}, which holds text, the value {wrong[0]!r}, which no label of the "
            f"column equals: give text, such as {str(wrong[0])!r}."
        )


def _numbers_as_before(values: np.ndarray, dtype: Any) -> np.ndarray:
    """Return numbers in a type, or as they are if it does not hold them."""
    if getattr(dtype, "kind", "O") not in "biuf":
        return values
    with np.errstate(invalid="ignore"):
        new = values.astype(getattr(dtype, "numpy_dtype", dtype))
    return new if ((new == values) | (pd.isna(values) & pd.isna(new))).all() else values
