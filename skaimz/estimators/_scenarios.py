"""Scenarios as a user writes them, brought into the kernel's arguments."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from skaimz import sampling
from skaimz.estimators._columns import Columns
from skaimz.estimators._rows import LazyRows

__all__ = ["Asked", "changed", "continuous_input", "grouping", "named_scenarios", "weights_of"]

CHANGES = ("columns", "arguments", "intervention", "condition")


class Asked(NamedTuple):
    """What is asked of a comparison, as the user said it."""

    where: Any
    by: Any
    average: bool
    in_sample: bool
    sample_weight: Any
    random_state: Any


def changed(
    X: Any, arrays: Mapping[str, Any], changes: Mapping[str, Any], columns: Columns, param_input: str
) -> tuple[Any, dict[str, Any]]:
    """Return rows and arguments with a scenario's new values."""
    n_rows, arrays = len(X), dict(arrays)
    for name, value in changes.get("arguments", {}).items():
        current: Any = X if name == param_input else arrays.get(name)
        value = value(np.asarray(current[:])) if callable(value) else value
        if name == param_input:
            X = np.asarray(value, X.dtype)
            if X.shape != (n_rows, *np.shape(current)[1:]):
                raise ValueError(f"A scenario gives {name!r} the shape {X.shape}, but it has {np.shape(current)}.")
        else:
            by_row = np.ndim(current) > 0 and len(current) == n_rows
            arrays[name] = np.full(n_rows, value) if by_row and np.ndim(value) == 0 else value
    moved: dict[int, np.ndarray] = {}
    for column, value in changes.get("columns", {}).items():
        value = value(columns.values(column)) if callable(value) else value
        if np.shape(value) not in ((), (n_rows,)):
            raise ValueError(
                f"A scenario gives column {column!r} the shape {np.shape(value)}: it must be one value, or one for "
                f"each of the {n_rows} rows."
            )
        values = columns.coded(column, np.broadcast_to(np.asarray(value), n_rows))
        name, place = columns.home(column)
        if name is None:
            assert place is not None
            moved[place] = values.astype(X.dtype)
        elif place is None:
            arrays[name] = values
        else:
            arrays[name] = np.array(arrays[name], np.result_type(arrays[name], values))
            arrays[name][:, place] = values
    return (_overlaid(X, moved) if moved else X), arrays


def _overlaid(X: Any, moved: Mapping[int, np.ndarray]) -> LazyRows:
    """Return rows with other values in some columns, copied as they are read."""

    def put(part: np.ndarray, start: int) -> np.ndarray:
        part = np.array(part)
        for place, values in moved.items():
            part[:, place] = values[start : start + len(part)]
        return part

    return LazyRows(X, put)


def _values_of(name: Any, columns: Columns, arrays: Mapping[str, Any], argument: str) -> np.ndarray:
    """Return an argument of the kernel, or a column of X."""
    try:
        return columns.values(name)
    except (TypeError, ValueError) as error:
        if isinstance(name, str) and name in arrays:
            return np.asarray(arrays[name][:])
        raise type(error)(f"`{argument}`: {error}") from error


def weights_of(asked: Asked, columns: Columns, arrays: Mapping[str, Any], n_rows: int) -> np.ndarray:
    """Return the weight of each row, zero where it does not count."""
    weights = np.ones(n_rows)
    if asked.sample_weight is not None:
        weights = np.asarray(asked.sample_weight, np.float64)
        if weights.shape != (n_rows,) or not (weights >= 0).all() or not np.isfinite(weights).all():
            raise ValueError(f"`sample_weight` must be {n_rows} finite numbers >= 0, one for each row.")
    where = asked.where
    if isinstance(where, Mapping):
        for name, value in where.items():
            weights = weights * (_values_of(name, columns, arrays, "where") == value)
    elif where is not None:
        where = np.asarray(where)
        if where.shape != (n_rows,) or where.dtype != bool:
            raise ValueError(
                f"`where` must map columns or arguments to values, or mark each of the {n_rows} rows by a boolean, got "
                f"an array of {where.dtype} of the shape {where.shape}."
            )
        weights = weights * where
    if not weights.any():
        raise ValueError("No row is left to average over: `where` or `sample_weight` leaves out all of them.")
    return weights


def grouping(by: Any, columns: Columns, arrays: Mapping[str, Any], n_rows: int) -> dict[str, Any]:
    """Return what rows are grouped by."""
    if by is None:
        return {}
    if isinstance(by, Mapping):
        wrong = [name for name, values in by.items() if np.shape(values) != (n_rows,)]
        if wrong:
            raise ValueError(f"`by` must give {wrong[0]!r} a value for each of the {n_rows} rows.")
        return {str(name): values for name, values in by.items()}
    names = by if isinstance(by, list | tuple) else [by]
    return {str(name): _values_of(name, columns, arrays, "by") for name in names}


def continuous_input(
    job: sampling.Pass, along: Any, columns: Columns, arrays: Mapping[str, Any]
) -> tuple[str, int | None]:
    """Return the argument, and the column of it, that a slope is taken along."""
    if job.spec.rows_mix is not None:
        raise ValueError(f"Slopes need a kernel whose rows stand alone, but {job.spec.rows_mix}.")
    if isinstance(along, str) and along in arrays:
        name, place = along, None
    else:
        home, place = columns.home(along)
        name = home or job.spec.input
    array = job.inputs.rows.get(name)
    if array is None or not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"Slopes need a continuous input, and {along!r} is none: it is not an array of floats by row.")
    return name, place


def named_scenarios(scenarios: Mapping[str, Any], baseline: Any) -> dict[str, dict[str, Any]]:
    """Return the baseline and the scenarios by name, the baseline first."""
    wrong = [name for name in scenarios if not isinstance(name, str) or not name or "/" in name]
    if wrong:
        raise ValueError(f"A scenario's name must be a string without '/', got {wrong[0]!r}.")
    if "baseline" in scenarios:
        raise ValueError("'baseline' cannot be a scenario's name: give it as the argument `baseline`.")
    named = {"baseline": {} if baseline is None else baseline, **scenarios}
    for name, changes in named.items():
        if not isinstance(changes, Mapping):
            raise TypeError(f"Scenario {name!r} must be a mapping with some of {list(CHANGES)}, got {changes!r}.")
        unknown = [key for key in changes if key not in CHANGES]
        if unknown:
            raise ValueError(f"Scenario {name!r} has {unknown[0]!r}, which is none of {list(CHANGES)}.")
    return {name: dict(changes) for name, changes in named.items()}
