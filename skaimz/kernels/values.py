"""Conversion of numbers for JAX. A number keeps its value, however it was stored, or is refused."""

import datetime
import numbers
from decimal import Decimal
from typing import Any

import jax
import numpy as np
import pandas as pd

__all__ = [
    "DURATIONS",
    "TIMES",
    "as_floats",
    "as_numbers",
    "finite",
    "float_type",
    "in_type_of",
    "is_text_of_numbers",
    "narrowed",
    "numbers_in",
    "plain_array",
    "unmasked",
]

NUMBERS = (numbers.Real, Decimal, np.bool_)
DURATIONS, TIMES = (datetime.timedelta, np.timedelta64), (datetime.date, datetime.time, np.datetime64, pd.Period)
# Remedies for values that are not numbers.
REMEDIES = {
    "duration": "Convert durations to numbers of a unit, for example by `.dt.total_seconds()`.",
    "time": "Convert times to numbers, for example by `(time - start) / pandas.Timedelta('1D')`.",
    "text": "Convert numbers that are stored as text, for example by `.astype(float)`, and encode labels as integers.",
    "sparse": "Convert sparse arrays by `.toarray()`.",
    "complex": "Pass the real and the imaginary part as two arrays.",
}


def unmasked(value: Any) -> Any:
    """Return an array with None for masked entries, and any other object as it is.

    NumPy itself would take the numbers behind the mask.
    """
    if not isinstance(value, np.ma.MaskedArray) or not value.mask.any():
        return value
    array = np.asarray(value).astype(object)
    array[value.mask] = None
    return array


def plain_array(value: Any) -> np.ndarray:
    """Return anything array-like as a NumPy array."""
    return np.asarray(unmasked(value))


def numbers_in(array: np.ndarray) -> np.ndarray | None:
    """Return an array of real numbers in a type of NumPy, with NaN for missing ones; None if it holds anything else."""
    if array.dtype.kind in "biuf":
        # JAX accepts only the byte order of the machine.
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind == "V":  # such as bfloat16, which JAX adds to NumPy's types
        is_float, is_integer = (jax.dtypes.issubdtype(array.dtype, kind) for kind in (np.floating, np.integer))
        return array.astype(np.float32 if is_float else np.int32) if is_float or is_integer else None
    if array.dtype.kind != "O" or not array.size:
        return None
    missing = np.asarray(pd.isna(array))
    present = array[~missing]
    if not all(issubclass(kind, NUMBERS) for kind in set(map(type, present.flat))):
        return None
    if not missing.any():
        if all(isinstance(number, bool | np.bool_) for number in present.flat):
            return array.astype(bool)
        if all(isinstance(number, numbers.Integral) for number in present.flat):
            fits = all(-(2**63) <= number < 2**63 for number in present.flat)
            return array.astype(np.int64 if fits else np.float64)
    floats = np.full(array.shape, np.nan)
    floats[~missing] = [_float(number) for number in present.flat]
    return floats


def _float(number: Any) -> float:
    try:
        return float(number)
    except OverflowError:
        return np.inf if number > 0 else -np.inf


def as_numbers(what: str, value: Any) -> np.ndarray:
    """Return anything array-like as an array of real numbers, with NaN for missing ones.

    Parameters
    ----------
    what : str
        Name of the value in messages.
    value : array-like

    Raises
    ------
    ValueError
        If the value holds anything but numbers, or parts of unequal lengths.
    """
    try:
        array = plain_array(value)
    except ValueError as error:
        raise ValueError(f"{what} is not an array: its parts have unequal lengths.") from error
    converted = numbers_in(array)
    if converted is None:
        raise ValueError(f"{what} must be numeric, got {_described(array)}")
    return converted


def finite(what: str, array: np.ndarray, first: int = 0, *, allow_nan: bool = False) -> np.ndarray:
    """Return an array if all its numbers are finite, or else raise ValueError with the number of the row.

    ``first`` is the number of the array's first row. With ``allow_nan``, missing numbers are no error.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        wrong = np.isinf(array) if allow_nan else ~np.isfinite(array)
        if wrong.any():
            raise ValueError(f"{what} contains {'infinity' if allow_nan else 'NaN or infinity'}{_row(wrong, first)}.")
    return array


def narrowed(what: str, array: np.ndarray, dtype: Any, first: int = 0) -> np.ndarray:
    """Return floats in the precision of a program, and other numbers unchanged.

    In single precision, JAX stores integers in 32 bits, and floats that are too large become infinite.

    Parameters
    ----------
    what : str
        Name of the array in messages.
    array : array of numbers
    dtype : {float32, float64}
        Precision of the program.
    first : int, default=0
        Number of the array's first row.

    Raises
    ------
    ValueError
        If a number is too large for the type that JAX will store it in.
    """
    single = np.dtype(dtype) == np.float32
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            stored = array.astype(dtype, copy=False)
        outside = np.isinf(stored) & np.isfinite(array) if stored.dtype.itemsize < array.dtype.itemsize else None
        limit = f"{np.dtype(dtype)}, whose largest number is {jax.numpy.finfo(dtype).max:.3g}"
    elif array.dtype.kind in "iu" and single and array.dtype.itemsize > 4:
        stored, kind = array, np.dtype(f"{array.dtype.kind}4")
        bounds = np.iinfo(kind)
        outside = (array < bounds.min) | (array > bounds.max)
        limit = f"{kind}, the type of integers beside float32: it ranges from {bounds.min} to {bounds.max}"
    else:
        return array
    if outside is None or not outside.any():
        return stored
    remedy = " Pass X as float64, or leave out `dtype='float32'`" if single else " Divide it by a unit"
    if array.dtype.kind != "f":
        remedy += ", or pass it as floats"
    raise ValueError(
        f"{what} holds {array[outside].flat[0]!s}{_row(outside, first, ' in')}, too large for {limit}.{remedy}."
    )


def float_type(dtype: Any) -> np.dtype:
    """Return the type of floats beside an array: float32 beside float32, and otherwise float64."""
    return np.dtype(np.float32 if dtype == np.float32 else np.float64)


def as_floats(what: str, array: np.ndarray, dtype: Any, first: int = 0) -> np.ndarray:
    """Return numbers of any kind as floats of a type, or raise ValueError as :func:`narrowed` does."""
    return narrowed(what, array if array.dtype.kind == "f" else array.astype(np.float64), dtype, first)


def in_type_of(site: Any, what: str, array: np.ndarray) -> np.ndarray:
    """Return numbers in the type of a site's values, except that fractions for an integer site stay floats."""
    dtype = np.dtype(site.dtype)
    if jax.dtypes.issubdtype(dtype, np.floating):
        return as_floats(what, array, dtype)
    array = narrowed(what, array, np.float64 if dtype.itemsize > 4 else np.float32)
    with np.errstate(invalid="ignore"):
        converted = array.astype(dtype)
    return converted if (converted == array).all() else array


def is_text_of_numbers(array: np.ndarray) -> bool:
    """Whether all entries of an array are texts that can be read as numbers."""
    present = array[~np.asarray(pd.isna(array))]
    if not present.size or not all(isinstance(text, str) for text in present.flat):
        return False
    try:
        present.astype(object).astype(np.float64)
    except ValueError:
        return False
    return True


def _row(wrong: np.ndarray, first: int, before: str = ", first in") -> str:
    """Return text that names the first row with a wrong number."""
    return f"{before} row {first + int(np.argwhere(wrong)[0, 0])}" if wrong.ndim else ""


def _described(array: np.ndarray) -> str:
    """Return text about the entries of an array that are no numbers, with a remedy."""
    kind = {"m": "duration", "M": "time", "c": "complex", "U": "text", "S": "text", "T": "text"}.get(array.dtype.kind)
    example = ""
    if array.dtype.kind == "O":
        missing = np.asarray(pd.isna(array))
        foreign = next(entry for entry in array[~missing].flat if not isinstance(entry, NUMBERS))
        example = f" that holds a {type(foreign).__name__}"
        example += "" if hasattr(foreign, "shape") or isinstance(foreign, dict) else f", {foreign!r}"
        kind = "text" if isinstance(foreign, str | bytes) else "duration" if isinstance(foreign, DURATIONS) else None
        kind = "time" if isinstance(foreign, TIMES) else kind
        kind = "sparse" if hasattr(foreign, "toarray") else kind
    remedy = REMEDIES.get(kind or "", "Pass an array of numbers.")
    return f"an array of type {array.dtype}{example}. {remedy}"
