"""Scenarios as a user writes them, brought into the kernel's arguments."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from skaimz import sampling
from skaimz.estimators._columns import Columns
from skaimz.estimators._given import applied, check_order, marked
from skaimz.estimators._model import Call
from skaimz.estimators._read import read
from skaimz.estimators._units import warn_of_units
from skaimz.exceptions import NoRowsError
from skaimz.kernels import as_floats, as_numbers, finite, flattened, narrowed, nested, numbers_in, plain_array, within
from skaimz.rows import LazyRows, lazy_rows, loaded

__all__ = [
    "Over",
    "changed",
    "check_names",
    "continuous_input",
    "grouping",
    "named_scenarios",
    "weights_of",
    "with_continuous_input",
]

CHANGES = ("columns", "arguments", "intervention", "condition")


@dataclass(frozen=True)
class Over:
    """Which rows an effect is averaged over; the fields are those of the public methods."""

    where: Any = None
    by: Any = None
    average: bool = True
    in_sample: bool = False
    sample_weight: Any = None

    @property
    def is_default(self) -> bool:
        """Whether nothing is set."""
        return all(getattr(self, field.name) is field.default for field in fields(self))


def changed(call: Call, changes: Mapping[str, Any]) -> Call:
    """Return a call with a scenario's new values."""
    n_rows, param_input = call.n_rows, call.model.names[0]
    arguments = dict(changes.get("arguments", {}))
    if param_input in arguments:
        value = arguments.pop(param_input)
        what = f"the argument {param_input!r}"
        X = applied(value, _whole(call.source), what) if callable(value) else value
        check_order(f"A scenario's value for {what}", X, call.source)
        prior = not call.model.has_draws
        call = read(call.model, X, call.passed, random_state=call.seed, part=call.part, prior=prior)
        if call.n_rows != n_rows:
            raise ValueError(f"A scenario gives {param_input!r} {call.n_rows} rows, but it has {n_rows}.")
    X, arrays = call.X, dict(call.arrays)
    for name, value in _flat_changes(arguments, arrays).items():
        current = arrays.get(name)
        by_row = current is not None and not within(name, call.model.whole) and np.shape(current)[:1] == (n_rows,)
        arrays[name] = _new_argument(name, value, current, call.source if by_row else None)
    moved: dict[int, np.ndarray] = {}
    for column, value in changes.get("columns", {}).items():
        values = _new_column(column, value, call.columns, n_rows)
        warn_of_units(call, column, value)
        home, place = call.columns.home(column)
        if home is None:
            assert place is not None
            moved[place] = _of_input(column, values, call)
        elif place is None:
            arrays[home] = _as_current(values, arrays[home])
        else:
            values = _as_current(values, arrays[home])
            arrays[home] = np.array(arrays[home][:], np.result_type(arrays[home].dtype, values))
            arrays[home][:, place] = values
    return call.with_rows(_overlaid(X, moved) if moved else X, arrays)


def _flat_changes(arguments: Mapping[str, Any], arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return changes of arguments by name, those of mappings entry by entry."""
    mappings = {name: value for name, value in nested(arrays).items() if isinstance(value, dict)}
    called = {
        name: applied(value, mappings[name], f"the argument {name!r}")
        for name, value in arguments.items()
        if callable(value) and name in mappings
    }
    return flattened({**arguments, **called})


def _whole(array: Any) -> Any:
    """Return what may be read in parts, or is a list, as an array; a data frame and a single number as they are."""
    is_frame = hasattr(array, "iloc")
    return np.asarray(array[:]) if np.ndim(array) and not is_frame else array


def _kind(array: Any) -> str:
    return array.dtype.kind if hasattr(array, "dtype") else np.asarray(array).dtype.kind


def _new_argument(name: str, value: Any, current: Any, rows: Any) -> Any:
    """Return an argument's new value, with an entry for each row where rows are given: the current one has."""
    if callable(value):
        if current is None:
            raise ValueError(f"A scenario changes the argument {name!r}, which was not passed.")
        value = applied(value, _whole(current), f"the argument {name!r}")
    if value is None or current is None or np.ndim(current) == 0:
        return value
    if np.ndim(value) == 0:
        value = np.full(np.shape(current), value)
    if rows is not None:
        check_order(f"A scenario's value for the argument {name!r}", value, rows)
        length, n_rows = np.shape(value)[0], np.shape(current)[0]
        if length != n_rows:
            raise ValueError(f"A scenario gives the argument {name!r} {length} values, but there are {n_rows} rows.")
    return _as_current(value, current)


def _as_current(values: Any, current: Any) -> Any:
    """Return an argument's new values in the kind of numbers that it has, so that scenarios share a program."""
    kind = _kind(current)
    rows = lazy_rows(values)
    if rows is not None and rows.dtype.kind == kind:
        return values
    values = plain_array((values if rows is None else rows)[:])
    found = numbers_in(values)
    if found is None or found.dtype.kind == kind:
        return values
    if kind == "f":
        return found.astype(np.float64)
    # An index stays one, and so does a mark.
    with np.errstate(invalid="ignore"):
        candidate = found.astype(bool if kind == "b" else np.int64)
    return candidate if (candidate == found).all() else found


def _new_column(column: Any, value: Any, columns: Columns, n_rows: int) -> np.ndarray:
    """Return a column's new values as the kernel sees them."""
    value = applied(value, columns.values(column), f"column {column!r}") if callable(value) else value
    check_order(f"A scenario's value for column {column!r}", value, columns.X)
    values = plain_array(value)
    if values.shape not in ((), (n_rows,)):
        raise ValueError(
            f"A scenario gives column {column!r} the shape {values.shape}: it must be one value, or one for each of "
            f"the {n_rows} rows."
        )
    return columns.coded(column, np.broadcast_to(values, n_rows))


def _of_input(column: Any, values: np.ndarray, call: Call) -> np.ndarray:
    """Return values of a column of the input in its type, or in a wider one that holds them."""
    what = f"The array of values that a scenario gives column {column!r}"
    values = finite(what, as_numbers(what, values))
    dtype = call.X.dtype
    if dtype.kind == "f":
        return as_floats(what, values, dtype)
    with np.errstate(invalid="ignore"):
        candidate = values.astype(dtype)
    if (candidate == values).all():
        return candidate
    values = _as_current(values, candidate.astype(np.int64))
    return as_floats(what, values, call.dtype) if values.dtype.kind == "f" else narrowed(what, values, call.dtype)


def _overlaid(X: Any, moved: Mapping[int, np.ndarray]) -> LazyRows:
    """Return rows with other values in some columns, copied as they are read."""
    floats = [values.dtype for values in moved.values() if values.dtype.kind == "f"]
    dtype = floats[0] if floats else np.result_type(X.dtype, *moved.values())

    def put(part: np.ndarray, start: int) -> np.ndarray:
        part = np.array(part, dtype)
        for place, values in moved.items():
            part[:, place] = values[start : start + len(part)]
        return part

    return LazyRows(X, put)


def _values_of(name: Any, call: Call, argument: str) -> Any:
    """Return an argument of the kernel, or a column of X as the user passed it, with a value for each row."""
    array = call.arrays.get(name) if isinstance(name, str) else None
    try:
        return call.columns.series(name, f"`{argument}`")
    except (TypeError, ValueError):
        if array is None:
            raise
    values = np.asarray(_whole(array))
    if values.shape != (call.n_rows,):
        raise ValueError(f"`{argument}` names the argument {name!r}, which has not one value for each row.")
    return values


def weights_of(over: Over, call: Call) -> np.ndarray:
    """Return the weight of each row, zero where it does not count."""
    n_rows = call.n_rows
    weights = np.ones(n_rows)
    sample_weight = over.sample_weight
    if sample_weight is None and over.average and call.weight is not None:
        sample_weight = call.weight[:]
    check_order("`sample_weight`", sample_weight, call.source)
    if sample_weight is not None:
        weights = as_numbers("`sample_weight`", sample_weight).astype(np.float64)
        if weights.shape != (n_rows,) or not (weights >= 0).all() or not np.isfinite(weights).all():
            raise ValueError(f"`sample_weight` must be {n_rows} finite numbers >= 0, one for each row.")
    if over.where is not None:
        weights = weights * marked(over.where, call.source, n_rows, lambda name: _values_of(name, call, "where"))
    if not weights.any():
        raise NoRowsError("No row is left to average over: `where` or `sample_weight` leaves out all of them.")
    return weights


def grouping(by: Any, call: Call) -> dict[str, Any]:
    """Return what rows are grouped by."""
    n_rows = call.n_rows
    if by is None:
        return {}
    if isinstance(by, Mapping):
        wrong = [name for name, values in by.items() if np.shape(values) != (n_rows,)]
        if wrong:
            raise ValueError(f"`by` must give {wrong[0]!r} a value for each of the {n_rows} rows.")
        for name, values in by.items():
            check_order(f"The series {name!r} in `by`", values, call.source)
        return {str(name): loaded(values) for name, values in by.items()}
    names = by if isinstance(by, list | tuple) else [by]
    if any(hasattr(name, "__array__") and np.ndim(name) for name in names):
        raise TypeError(
            f"`by` must name columns of X or arguments, or be a dict of names to arrays, got a {type(by).__name__}: "
            "write `by={'name': values}`."
        )
    return {str(name): _values_of(name, call, "by") for name in names}


def with_continuous_input(call: Call, along: Iterable[Any]) -> Call:
    """Return a call with floats for an X of integers, if slopes are taken along columns of X."""
    if call.X.dtype.kind not in "iu" or all(isinstance(name, str) and name in call.arrays for name in along):
        return call
    return call.with_rows(LazyRows(call.X).floats("X", call.dtype), call.arrays)


def continuous_input(job: sampling.Job, along: Any, call: Call) -> tuple[str, int | None]:
    """Return the argument, and the column of it, that a slope is taken along."""
    if job.spec.rows_mix is not None:
        raise ValueError(f"Slopes need a kernel whose rows stand alone, but {job.spec.rows_mix}.")
    if isinstance(along, str) and along in call.arrays:
        name, place = along, None
    else:
        home, place = call.columns.home(along, "`along`")
        name = home or job.spec.input
    array = job.inputs.rows.get(name)
    if array is None or not np.issubdtype(array.dtype, np.floating) or (place is None and array.ndim > 1):
        raise ValueError(
            f"`along` needs a continuous input, and {along!r} is none: it is not one float for each row. An array of "
            "integers that stands for a continuous quantity must be passed as floats."
        )
    return name, place


def check_names(names: Iterable[Any], what: str) -> None:
    """Refuse what cannot be the name of a group of a DataTree."""
    wrong = [name for name in names if not isinstance(name, str) or not name or "/" in name]
    if wrong:
        raise ValueError(f"{what} must be a string without '/', got {wrong[0]!r}.")


def named_scenarios(scenarios: Mapping[str, Any], baseline: Any) -> dict[str, dict[str, Any]]:
    """Return the baseline and the scenarios by name, the baseline first."""
    if "baseline" in scenarios:
        raise ValueError("'baseline' cannot be a scenario's name: give it as the argument `baseline`.")
    named = {"baseline": {} if baseline is None else baseline, **scenarios}
    for name, changes in named.items():
        if not isinstance(changes, Mapping):
            raise TypeError(
                f"Scenario {name!r} must be a mapping with some of {list(CHANGES)}, got a {type(changes).__name__}. "
                "Other rows altogether are an argument of the kernel: {'arguments': {'X': rows}}."
            )
        unknown = [key for key in changes if key not in CHANGES]
        if unknown:
            raise ValueError(f"Scenario {name!r} has {unknown[0]!r}, which is none of {list(CHANGES)}.")
        for key, values in changes.items():
            if not isinstance(values, Mapping):
                raise TypeError(f"Scenario {name!r} must map names to values in {key!r}, got {values!r}.")
    return {name: dict(changes) for name, changes in named.items()}
