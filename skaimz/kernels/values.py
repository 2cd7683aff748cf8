"""Numbers on their way from NumPy to JAX: each arrives as the number it is, however it was stored, or is refused."""

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
    "in_type_of",
    "is_text_of_numbers",
    "narrowed",
    "numbers_in",
    "plain_array",
    "unmasked",
]

NUMBERS = (numbers.Real, Decimal, np.bool_)
DURATIONS, TIMES = (datetime.timedelta, np.timedelta64), (datetime.date, datetime.time, np.datetime64, pd.Period)
# What to do about values that are not numbers.
REMEDIES = {
    "duration": "Convert durations to numbers of a unit, for example by `.dt.total_seconds()`.",
    "time": "Convert times to numbers, for example by `(time - start) / pandas.Timedelta('1D')`.",
    "text": "Convert numbers that are stored as text, for example by `.astype(float)`, and encode labels as integers.",
    "sparse": "Convert sparse arrays by `.toarray()`.",
    "complex": "Pass the real and the imaginary part as two arrays.",
}


def unmasked(value: Any) -> Any:
    """Return what was given; masked entries, whose numbers NumPy itself would go on with, become missing."""
    if not isinstance(value, np.ma.MaskedArray) or not value.mask.any():
        return value
    found = np.asarray(value).astype(object)
    found[value.mask] = None
    return found


def plain_array(value: Any) -> np.ndarray:
    """Return anything array-like as NumPy's own array."""
    return np.asarray(unmasked(value))


def numbers_in(array: np.ndarray) -> np.ndarray | None:
    """Return an array of real numbers in one of NumPy's own types, missing ones as NaN; None where it holds others."""
    if array.dtype.kind in "biuf":
        # JAX takes no other order of bytes.
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
        if all(isinstance(each, bool | np.bool_) for each in present.flat):
            return array.astype(bool)
        if all(isinstance(each, numbers.Integral) for each in present.flat):
            inside = all(-(2**63) <= each < 2**63 for each in present.flat)
            return array.astype(np.int64 if inside else np.float64)
    found = np.full(array.shape, np.nan)
    found[~missing] = [_float(each) for each in present.flat]
    return found


def _float(number: Any) -> float:
    try:
        return float(number)
    except OverflowError:
        return np.inf if number > 0 else -np.inf


def as_numbers(what: str, value: Any) -> np.ndarray:
    """Return anything array-like as an array of real numbers, missing ones as NaN.

    Parameters
    ----------
    what : str
        What messages call it.
    value : array-like

    Raises
    ------
    ValueError
        If it holds anything but numbers, or parts of unequal lengths.
    """
    try:
        array = plain_array(value)
    except ValueError as error:
        raise ValueError(f"{what} is not an array: its parts have unequal lengths.") from error
    found = numbers_in(array)
    if found is None:
        raise ValueError(f"{what} must be numeric, got {_described(value, array)}")
    return found


def finite(what: str, array: np.ndarray, first: int = 0) -> np.ndarray:
    """Return numbers, the first of which is that of the row ``first``, if all of them are finite."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{what} contains NaN or infinity{_place(~np.isfinite(array), first)}.")
    return array


def narrowed(what: str, array: np.ndarray, dtype: Any, first: int = 0) -> np.ndarray:
    """Return numbers as JAX takes them beside floats of a type: floats in that type, others as they are.

    Beside single precision JAX cuts integers to 32 bits, and floats may become infinite.

    Parameters
    ----------
    what : str
        What messages call them.
    array : array of numbers
    dtype : {float32, float64}
    first : int, default=0
        Number of the first row.

    Raises
    ------
    ValueError
        If one is beyond the range of the type that it would have.
    """
    single = np.dtype(dtype) == np.float32
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            found = array.astype(dtype, copy=False)
        outside = np.isinf(found) & np.isfinite(array) if found.dtype.itemsize < array.dtype.itemsize else None
        limit = f"{np.dtype(dtype)}, whose largest number is {jax.numpy.finfo(dtype).max:.3g}"
    elif array.dtype.kind in "iu" and single and array.dtype.itemsize > 4:
        found, kind = array, np.dtype(f"{array.dtype.kind}4")
        bounds = np.iinfo(kind)
        outside = (array < bounds.min) | (array > bounds.max)
        limit = f"{kind}, as integers are beside float32: they range from {bounds.min} to {bounds.max}"
    else:
        return array
    if outside is None or not outside.any():
        return found
    remedy = " Pass X as float64, or leave out `dtype='float32'`" if single else " Divide it by a unit"
    if array.dtype.kind != "f":
        remedy += ", or pass it as floats"
    raise ValueError(
        f"{what} holds {array[outside].flat[0]!s}{_place(outside, first, ' in')}, too large for {limit}.{remedy}."
    )


def as_floats(what: str, array: np.ndarray, dtype: Any, first: int = 0) -> np.ndarray:
    """Return numbers of any kind as floats of a type, or refuse what is beyond its range, as :func:`narrowed` does."""
    return narrowed(what, array if array.dtype.kind == "f" else array.astype(np.float64), dtype, first)


def in_type_of(site: Any, what: str, array: np.ndarray) -> np.ndarray:
    """Return numbers in the type of a site's values; fractions, which an integer site may be set to, stay floats."""
    dtype = np.dtype(site.dtype)
    if jax.dtypes.issubdtype(dtype, np.floating):
        return as_floats(what, array, dtype)
    array = narrowed(what, array, np.float64 if dtype.itemsize > 4 else np.float32)
    with np.errstate(invalid="ignore"):
        found = array.astype(dtype)
    return found if (found == array).all() else array


def is_text_of_numbers(array: np.ndarray) -> bool:
    """Whether an array holds text that reads as numbers throughout."""
    present = array[~np.asarray(pd.isna(array))]
    if not present.size or not all(isinstance(each, str) for each in present.flat):
        return False
    try:
        present.astype(object).astype(np.float64)
    except ValueError:
        return False
    return True


def _place(where: np.ndarray, first: int, before: str = ", first in") -> str:
    return f"{before} row {first + int(np.argwhere(where)[0, 0])}" if where.ndim else ""


def _described(value: Any, array: np.ndarray) -> str:
    """Say what an array holds that is no number, and what to do about it."""
    kind = {"m": "duration", "M": "time", "c": "complex", "U": "text", "S": "text", "T": "text"}.get(array.dtype.kind)
    example = ""
    if array.dtype.kind == "O":
        missing = np.asarray(pd.isna(array))
        foreign = next(each for each in array[~missing].flat if not isinstance(each, NUMBERS))
        example = f" that holds a {type(foreign).__name__}"
        example += "" if hasattr(foreign, "shape") or isinstance(foreign, dict) else f", {foreign!r}"
        kind = "text" if isinstance(foreign, str | bytes) else "duration" if isinstance(foreign, DURATIONS) else None
        kind = "time" if isinstance(foreign, TIMES) else kind
        kind = "sparse" if hasattr(foreign, "toarray") else kind
    remedy = REMEDIES.get(kind or "", "Pass an array of numbers.")
    return f"an array of type {array.dtype}{example}. {remedy}"
