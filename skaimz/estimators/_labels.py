"""Convert labels of categories and classes, and values that users list, to JSON data and back."""

import base64
import datetime
import decimal
import fractions
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

__all__ = ["plain", "restored", "restored_labels", "stored_labels"]

# Key of a mapping that stands for a value which JSON does not know.
KIND = "__kind__"


class _Form(NamedTuple):
    """A type of labels, and how one is written and read."""

    type: type
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def _iso_form(cls: Any) -> _Form:
    return _Form(cls, cls.isoformat, cls.fromisoformat)


# Subclasses stand before their bases.
FORMS = {
    "timestamp": _Form(pd.Timestamp, lambda t: [t.isoformat(), t.unit, t.tz and str(t.tz)], lambda f: _timestamp(*f)),
    "timedelta": _Form(
        pd.Timedelta,
        lambda t: [int(t.asm8.view("i8")), t.unit],
        lambda f: pd.Timedelta(np.timedelta64(*f)).as_unit(f[1]),
    ),
    "period": _Form(pd.Period, lambda p: [p.ordinal, p.freqstr], lambda f: pd.Period(ordinal=f[0], freq=f[1])),
    "interval": _Form(
        pd.Interval,
        lambda i: [plain(i.left), plain(i.right), i.closed],
        lambda f: pd.Interval(restored(f[0]), restored(f[1]), f[2]),
    ),
    "datetime": _iso_form(datetime.datetime),
    "date": _iso_form(datetime.date),
    "time": _iso_form(datetime.time),
    "duration": _Form(
        datetime.timedelta, lambda t: [t.days, t.seconds, t.microseconds], lambda f: datetime.timedelta(*f)
    ),
    "decimal": _Form(decimal.Decimal, str, decimal.Decimal),
    "fraction": _Form(fractions.Fraction, str, fractions.Fraction),
    "uuid": _Form(uuid.UUID, str, uuid.UUID),
    "bytes": _Form(bytes, lambda b: base64.b64encode(b).decode(), base64.b64decode),
}


def _timestamp(text: str, unit: str, zone: str | None) -> pd.Timestamp:
    found = pd.Timestamp(text).as_unit(unit)
    return found if zone is None else found.tz_convert(zone)


def plain(value: Any) -> Any:
    """Return a value as what JSON knows; mappings and lists are converted recursively.

    Raises
    ------
    TypeError
        If it holds something of a type that is not known here.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, np.datetime64 | np.timedelta64):
        value = (pd.Timestamp if isinstance(value, np.datetime64) else pd.Timedelta)(value)
    elif isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return {KIND: "tuple", "value": list(map(plain, value))}
    for kind, form in FORMS.items():
        if isinstance(value, form.type):
            return {KIND: kind, "value": form.write(value)}
    if hasattr(value, "__iter__"):
        return list(map(plain, value))
    raise TypeError(
        f"{value!r}, a {type(value).__name__}, cannot be stored as data: make labels of categories and classes text, "
        "numbers, times, durations, periods, intervals, bytes or UUIDs."
    )


def restored(value: Any) -> Any:
    """Return what :func:`plain` was given, but for NumPy's scalars, which become Python's, and keys, which are text."""
    if isinstance(value, list):
        return list(map(restored, value))
    if not isinstance(value, dict):
        return value
    if KIND not in value:
        return {key: restored(each) for key, each in value.items()}
    if value[KIND] == "tuple":
        return tuple(map(restored, value["value"]))
    return FORMS[value[KIND]].read(value["value"])


def stored_labels(labels: np.ndarray | None) -> list | None:
    """Return an array of labels as plain data, with its type."""
    return None if labels is None else [plain(list(labels)), labels.dtype.str]


def restored_labels(stored: list | None) -> np.ndarray | None:
    """Return what :func:`stored_labels` was given."""
    if stored is None:
        return None
    values, dtype = restored(stored[0]), np.dtype(stored[1])
    if dtype.kind != "O":
        return np.asarray(values, dtype)
    found = np.empty(len(values), object)  # `np.asarray` would make columns of tuples
    found[:] = values
    return found
