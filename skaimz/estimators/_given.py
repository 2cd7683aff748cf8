"""What users give for rows: functions of the present values, values with labels of rows, and values to look for."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from skaimz.kernels import numbers_in, plain_array

__all__ = ["applied", "check_order", "marked", "where_equal"]


def applied(function: Callable, present: Any, what: str) -> Any:
    """Return what a user's function makes of the present values.

    The function gets a copy of its own, which it may change, with integers of 64 bits in place of narrower ones, whose
    results would wrap around: 0 - 1 is 255 in eight bits without a sign.

    Parameters
    ----------
    function : callable
    present : array, data frame, mapping of them, or scalar
    what : str
        What the function gives, for messages.

    Raises
    ------
    ValueError
        If the function returns None.
    """
    value = function(_own_copy(present))
    if value is None:
        raise ValueError(f"A scenario's function for {what} returns None: it must return the new values.")
    return value


def _own_copy(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {name: _own_copy(each) for name, each in values.items()}
    if isinstance(values, pd.DataFrame):
        frame = values.copy()
        for place, dtype in enumerate(frame.dtypes):
            if _is_narrow(dtype):
                frame.isetitem(place, frame.iloc[:, place].astype(_wide(dtype)))
        return frame
    if isinstance(values, pd.Series):
        return values.astype(_wide(values.dtype)) if _is_narrow(values.dtype) else values.copy()
    if hasattr(values, "with_columns"):  # a data frame of polars
        return values.with_columns(
            column.cast(int)
            for column in values.get_columns()
            if column.dtype.is_integer() and not str(column.dtype).endswith(("64", "128"))
        )
    if isinstance(values, np.ndarray):
        return np.array(values, np.int64 if _is_narrow(values.dtype) else values.dtype)
    return copy.deepcopy(values)


def _is_narrow(dtype: Any) -> bool:
    return getattr(dtype, "kind", "O") in "iu" and dtype.itemsize < np.dtype(np.int64).itemsize


def _wide(dtype: Any) -> Any:
    """Return the type of integers of 64 bits in the same family of types."""
    if isinstance(dtype, np.dtype):
        return np.int64
    return "int64[pyarrow]" if isinstance(dtype, pd.ArrowDtype) else "Int64"


def check_order(what: str, values: Any, X: Any) -> None:
    """Refuse values with the labels of the rows of X in another order than the rows of X.

    Values belong to rows by position, as in scikit-learn. Labels that are others than those of X have no meaning.

    Parameters
    ----------
    what : str
        Name of the values in messages.
    values : object
    X : object
        Rows; only data frames of pandas have labels.
    """
    if not hasattr(X, "iloc") or not isinstance(values, pd.Series | pd.DataFrame):
        return
    labels, index = values.index, X.index
    if len(labels) == len(index) and not labels.equals(index) and labels.isin(index).all() and index.isin(labels).all():
        raise ValueError(
            f"{what} has the row labels of X in another order than X, so that it is not clear which value belongs to "
            "which row: pass `.reindex(X.index)` to go by the labels, or `.to_numpy()` to go by the positions."
        )


def marked(where: Any, X: Any, n_rows: int, values_of: Callable[[Any], Any]) -> np.ndarray:
    """Return `where` as marks of rows.

    Parameters
    ----------
    where : mapping of names to values, or array of bool of shape (n_rows,)
    X : object
        The rows, of which there are ``n_rows``.
    n_rows : int
    values_of : callable
        Returns the values that have a name.
    """
    if not isinstance(where, Mapping):
        check_order("`where`", where, X)
        array = plain_array(where)
        marks = numbers_in(array)
        if marks is None or marks.shape != (n_rows,) or marks.dtype != bool:
            raise ValueError(
                f"`where` must map columns or arguments to values, or mark each of the {n_rows} rows by a boolean, got "
                f"an array of {array.dtype} of the shape {array.shape}."
            )
        return marks
    marks = np.ones(n_rows, bool)
    for name, value in where.items():
        if np.shape(value) not in ((), (n_rows,)):
            raise ValueError(f"`where` must give {name!r} one value, or one for each of the {n_rows} rows.")
        check_order(f"The value of {name!r} in `where`", value, X)
        marks &= where_equal(values_of(name), value)
    return marks


def where_equal(values: Any, value: Any) -> np.ndarray:
    """Return which values equal one value, or one for each, as pandas compares them; missing ones equal nothing.

    Parameters
    ----------
    values : array or series
    value : object
    """
    series, by_row = _series(values), np.ndim(value) > 0
    known = series.notna().to_numpy(bool)
    if by_row:
        others = _series(value)
        known = known & others.notna().to_numpy(bool)
        value = _plain(others[known])
    equal = np.zeros(len(series), bool)
    if known.any() and (by_row or not pd.isna(value)):
        equal[known] = np.asarray(_plain(series[known]) == value, bool)
    return equal


def _series(values: Any) -> pd.Series:
    """Return values as a series of pandas with the labels 0, 1, ..."""
    return values.reset_index(drop=True) if isinstance(values, pd.Series) else pd.Series(plain_array(values))


def _plain(known: pd.Series) -> pd.Series:
    """Return values, none of them missing, as what categories stand for, and those of Arrow in a type of pandas."""
    if isinstance(known.dtype, pd.CategoricalDtype):
        known = known.astype(known.dtype.categories.dtype)
    is_arrow = isinstance(known.dtype, pd.ArrowDtype)
    return pd.Series(known.to_numpy(), known.index).infer_objects() if is_arrow else known
