"""Arguments of a kernel that are columns of X: where they are, and what codes their categories have."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.utils import _safe_indexing

from skaimz.kernels import DURATIONS, TIMES, as_numbers, is_text_of_numbers, numbers_in, plain_array
from skaimz.rows import LazyRows, as_table

__all__ = ["Columns", "Naming", "check_numeric", "culprits_named", "in_numbers", "number_of_codes", "split_columns"]

SETTINGS = ("columns", "categories", "unknown_value")
# What is not a number and may yet stand for a quantity, and how it is converted to one.
KINDS = {"durations": DURATIONS, "times": TIMES}
QUANTITIES = {
    "numbers stored as text": "`.astype(float)`",
    "durations": "`.dt.total_seconds()`",
    "times": "`(time - start) / pandas.Timedelta('1D')`",
}
# What is known of the categories of each argument: those of every column that has codes, None for one of numbers.
Categories = dict[str, list[np.ndarray | None]]


class Naming(NamedTuple):
    """Arguments of a kernel whose codes it counts, by a parameter ``n_<argument>``.

    Attributes
    ----------
    possible : frozenset of str
        Those with such a parameter.
    required : frozenset of str
        Those whose number has no default, and has not been given.
    """

    possible: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()


NOT_COUNTED = Naming()


class _Argument(NamedTuple):
    """One item of ``column_args``, read.

    Attributes
    ----------
    name : str
    places : list of int
    single : bool
        Whether the argument is one column, and so has one dimension.
    categories : array or None
        All categories in the order of their codes, where the user gave them.
    unknown_value : int or None
        Code of categories that were not there in ``fit``; None refuses them.
    """

    name: str
    places: list[int]
    single: bool
    categories: np.ndarray | None
    unknown_value: int | None


def split_columns(
    X: Any,
    column_args: Any,
    known: Categories | None,
    names: Sequence[str] | None = None,
    *,
    learn: bool = False,
    naming: Naming = NOT_COUNTED,
) -> tuple[Any, dict[str, Any], Categories]:
    """Take the kernel's arguments that are columns of X out of it.

    Parameters
    ----------
    X : array, data frame or LazyRows
    column_args : mapping or None
        The estimator's parameter.
    known : dict or None
        What an earlier call found out about categories; None in the first one.
    names : sequence of str, optional
        Names of the columns, where X itself does not tell.
    learn : bool, default=False
        Whether a column's distinct values may become its categories.
    naming : Naming, optional
        What the kernel's parameters tell about its arguments.

    Returns
    -------
    rest : array, data frame or LazyRows
        The columns that are left for the kernel's input.
    arrays : dict of str to array
        Every argument, categories as integer codes.
    categories : dict
        What is known of the categories now.
    """
    if column_args is None:
        return X, {}, {}
    X = as_table(X)
    columns = getattr(X, "columns", names)
    arguments = _read(column_args, X.shape[1], None if columns is None else list(columns))
    taken = {place for argument in arguments for place in argument.places}
    rest = [place for place in range(X.shape[1]) if place not in taken]
    if not rest:
        raise ValueError("`column_args` takes every column of X, so that none is left for the kernel's input.")
    arrays: dict[str, Any] = {}
    categories: Categories = {}
    for argument in arguments:
        found = None if known is None else known.get(argument.name)
        if isinstance(X, LazyRows):
            categories[argument.name] = found or [argument.categories] * len(argument.places)
            arrays[argument.name] = _take_lazily(X, argument, categories[argument.name])
            continue
        arrays[argument.name], categories[argument.name] = _take(X, argument, found, learn, naming)
    return X[:, rest] if isinstance(X, LazyRows) else _safe_indexing(X, rest, axis=1), arrays, categories


class Columns:
    """Where the columns of X end up among the kernel's arguments.

    Parameters
    ----------
    X : array, data frame or LazyRows
        As the user passed it.
    column_args : mapping or None
        The estimator's parameter.
    names : sequence of str or None
        Names of the columns, where X itself does not tell.
    categories : dict
        What is known of the categories of arguments.
    """

    def __init__(self, X: Any, column_args: Any, names: Sequence[str] | None, categories: Categories):
        self.X, self.categories = X, categories
        columns = getattr(X, "columns", names)
        self.names = None if columns is None else list(columns)
        self._arguments = [] if column_args is None else _read(column_args, X.shape[1], self.names)
        taken = {place for argument in self._arguments for place in argument.places}
        self._rest = [place for place in range(X.shape[1]) if place not in taken]

    def series(self, column: Any, what: str = "A scenario") -> Any:
        """Return a column as the user passed it, its type included; ``what`` asks for it, in messages."""
        place = _place(column, self.X.shape[1], self.names, what)
        return self.X[:, place][:] if isinstance(self.X, LazyRows) else _safe_indexing(self.X, place, axis=1)

    def values(self, column: Any) -> np.ndarray:
        """Return a column's values as the user passed them, numbers in one of NumPy's types."""
        values = plain_array(self.series(column))
        found = numbers_in(values)
        return values if found is None else found

    def home(self, column: Any, what: str = "A scenario") -> tuple[str | None, int | None]:
        """Return the argument that a column is in, None for the input, and its place there, None where it is all."""
        place = _place(column, self.X.shape[1], self.names, what)
        for argument in self._arguments:
            if place in argument.places:
                return argument.name, None if argument.single else argument.places.index(place)
        return None, self._rest.index(place)

    def coded(self, column: Any, values: np.ndarray) -> np.ndarray:
        """Return values of a column as the kernel sees them: categories as codes."""
        name, number = self.home(column)
        categories = None if name is None else self.categories.get(name, [None])[number or 0]
        if categories is None:
            return values
        argument = next(argument for argument in self._arguments if argument.name == name)
        return _codes(values, categories, argument, argument.places[number or 0])


def number_of_codes(column_args: Mapping[str, Any] | None, categories: Categories) -> dict[str, int]:
    """Return by argument how many codes its categories have, the one for unknown categories included."""
    counts = {}
    for name, columns in categories.items():
        longest = max((len(column) for column in columns if column is not None), default=0)
        setting = (column_args or {})[name]
        unknown = setting.get("unknown_value") if isinstance(setting, Mapping) else None
        if longest:
            counts[name] = longest if unknown is None else max(longest, unknown + 1)
    return counts


def check_numeric(foreign: Sequence[Any]) -> None:
    """Refuse columns of a data frame that are no numbers, by their names."""
    if foreign:
        raise ValueError(
            f"X must be numeric, but its columns {list(foreign)} are not: encode them as numbers, leave them out, or "
            "name them in `column_args`."
        )


def in_numbers(given: Any) -> Any:
    """Return rows or outcomes, objects among them that are numbers in one of NumPy's types; all else as it is."""
    if isinstance(given, pd.DataFrame):
        objects = [place for place, dtype in enumerate(given.dtypes) if isinstance(dtype, np.dtype) and dtype.hasobject]
        given = given.copy() if objects else given
        for place in objects:
            found = numbers_in(given.iloc[:, place].to_numpy())
            if found is not None:
                given.isetitem(place, found)
        return given
    if isinstance(given, list | tuple):
        try:
            array = np.asarray(given)
        except ValueError:
            return given  # parts of unequal lengths, as scikit-learn will say
        return in_numbers(array) if array.dtype.hasobject else given
    if isinstance(given, np.ndarray | pd.Series) and getattr(given.dtype, "hasobject", False):
        found = numbers_in(np.asarray(given))
        return given if found is None else found
    return given


@contextlib.contextmanager
def culprits_named(X: Any, y: Any = None) -> Iterator[None]:
    """Name what cannot be converted to numbers, where something is met that cannot: columns of a data frame, or y."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if str(error).startswith(("could not convert", "The DType", "float() argument")):
            names = getattr(X, "columns", ())
            check_numeric([n for place, n in enumerate(names) if not _converts(_safe_indexing(X, place, axis=1))])
            if y is not None and not _converts(y):
                raise ValueError(
                    f"y must be numeric, got an array of type {np.asarray(y).dtype}. NumPyroImpactClassifier takes "
                    "labels of any type."
                ) from error
        raise


def _converts(values: Any) -> bool:
    array = np.asarray(values)
    try:
        array.astype(np.float64)
    except (TypeError, ValueError):
        return False
    return array.dtype.kind not in "mM"


def _read(column_args: Any, n_features: int, names: list | None) -> list[_Argument]:
    if not isinstance(column_args, Mapping):
        raise TypeError(f"`column_args` must map kernel arguments to columns of X, got {column_args!r}.")
    read = []
    for name, setting in column_args.items():
        given = dict(setting) if isinstance(setting, Mapping) else {"columns": setting}
        foreign = [key for key in given if key not in SETTINGS]
        if foreign or "columns" not in given:
            raise ValueError(
                f"`column_args` must give {name!r} a column, a list of columns, or a mapping with 'columns' and, if "
                f"wanted, 'categories' and 'unknown_value', got {setting!r}."
            )
        columns: Any = given["columns"]
        categories, unknown = given.get("categories"), given.get("unknown_value")
        single = not isinstance(columns, list | tuple)
        if unknown is not None and (isinstance(unknown, bool) or not isinstance(unknown, int) or unknown < 0):
            raise ValueError(f"`column_args` must give {name!r} a non-negative `unknown_value`, got {unknown!r}.")
        columns = [columns] if single else list(columns)
        if not columns:
            raise ValueError(f"`column_args` must give {name!r} at least one column, got {setting!r}.")
        places = [_place(column, n_features, names, "`column_args`") for column in columns]
        listed = None if categories is None else _listed_categories(name, categories)
        read.append(_Argument(name, places, single, listed, unknown))
    return read


def _listed_categories(name: str, categories: Any) -> np.ndarray:
    """Return categories that the user lists."""
    if isinstance(categories, str) or not isinstance(categories, Iterable):
        raise ValueError(f"`column_args` must give {name!r} a list of `categories`, got {categories!r}.")
    listed = list(categories)
    if any(isinstance(label, tuple) for label in listed):
        array = np.empty(len(listed), object)  # `np.asarray` would make columns of tuples
        array[:] = listed
    else:
        array = np.asarray(listed)
    if array.dtype.kind == "U" and not all(isinstance(category, str) for category in listed):
        raise ValueError(f"`column_args` must give {name!r} categories of one type, got {listed!r}.")
    if pd.Index(array).has_duplicates:
        raise ValueError(f"`column_args` gives {name!r} a category twice: {listed!r}.")
    return array


def _place(column: Any, n_features: int, names: list | None, what: str) -> int:
    if isinstance(column, str) or (names is not None and column in names):
        if names is None:
            raise ValueError(
                f"{what} names column {column!r}, but X has no column names: give a position, or, in a Pipeline, have "
                "the steps before return data frames by `set_output(transform='pandas')`."
            )
        if column not in names:
            raise ValueError(f"{what} names column {column!r}, which X does not have: {names}.")
        return names.index(column)
    if isinstance(column, bool) or not isinstance(column, int | np.integer):
        raise TypeError(f"{what} must give columns by name or position, got {column!r}.")
    if not -n_features <= column < n_features:
        raise ValueError(f"{what} gives column {column}, but X has {n_features} columns.")
    return int(column) % n_features


def _take(
    X: Any, argument: _Argument, known: list | None, learn: bool, naming: Naming
) -> tuple[np.ndarray, list[np.ndarray | None]]:
    """Return an argument's values, and the categories of each of its columns."""
    values, categories = [], []
    for number, place in enumerate(argument.places):
        column = _safe_indexing(X, place, axis=1)
        array = plain_array(column)
        found = _categories(column, array, argument, place, learn, naming) if known is None else known[number]
        values.append(
            as_numbers(_named(argument, place), array) if found is None else _codes(array, found, argument, place)
        )
        categories.append(found)
    return values[0] if argument.single else np.column_stack(values), categories


def _take_lazily(X: LazyRows, argument: _Argument, categories: list) -> LazyRows:
    """Return an argument's values as they are read."""

    def coded(part: np.ndarray) -> np.ndarray:
        columns = [
            part[:, number] if found is None else _codes(part[:, number], found, argument, place)
            for number, (place, found) in enumerate(zip(argument.places, categories, strict=True))
        ]
        return columns[0] if argument.single else np.column_stack(columns)

    return X[:, argument.places].then(coded)


def _named(argument: _Argument, place: int) -> str:
    return f"Column {place} of X, the kernel's argument {argument.name!r},"


def _categories(
    column: Any, array: np.ndarray, argument: _Argument, place: int, learn: bool, naming: Naming
) -> np.ndarray | None:
    """Return the categories of a column: given, those of its type, or its distinct values; None for numbers.

    What numbers and times mean does not follow from how they are stored. They are categories where the kernel asks for
    the number of them.
    """
    if argument.categories is not None:
        # Times may be given as text, which is how they are stored.
        return argument.categories.astype(array.dtype) if array.dtype.kind == "M" else argument.categories
    of_type = getattr(getattr(column, "dtype", None), "categories", None)
    # The categories of polars' Categorical, unlike those of its Enum, are shared by all columns and cannot be listed.
    if isinstance(of_type, Sized) and len(of_type):
        return np.asarray(of_type)
    numbers = numbers_in(array)
    if numbers is not None and argument.name not in naming.required:
        return None
    remedy = "`column_args`: {...: {'columns': ..., 'categories': [...]}}"
    if not learn:
        raise ValueError(
            f"The categories of the kernel's argument {argument.name!r} are not known without `fit`, nor where rows "
            f"are read a part at a time: give them with {remedy}."
        )
    present = array[~pd.isna(array)]
    kind = None if argument.name in naming.possible else _kind_of_quantity(present)
    if kind is not None:
        raise ValueError(
            f"{_named(argument, place)} holds {kind}, which may be quantities or labels. Convert quantities to numbers "
            f"({QUANTITIES[kind]}). List labels with {remedy}, or let the kernel ask for their number by a parameter "
            f"`n_{argument.name}`."
        )
    try:
        return np.unique(present if numbers is None else numbers[~np.isnan(numbers)])
    except TypeError as error:
        raise ValueError(
            f"{_named(argument, place)} holds values of different types, which have no order: make them all text, or "
            "all numbers."
        ) from error


def _kind_of_quantity(present: np.ndarray) -> str | None:
    """Return what values are that could be quantities, though they are not numbers."""
    if is_text_of_numbers(present):
        return "numbers stored as text"
    of_type = {"m": "durations", "M": "times"}.get(present.dtype.kind)
    return of_type or next(
        (name for name, types in KINDS.items() if present.size and all(isinstance(each, types) for each in present)),
        None,
    )


def _countable(array: np.ndarray) -> np.ndarray | None:
    """Return numbers, among which marks are 0 and 1; None for all else."""
    found = numbers_in(array)
    return found if found is None or found.dtype.kind != "b" else found.astype(np.int64)


def _codes(array: np.ndarray, categories: np.ndarray, argument: _Argument, place: int) -> np.ndarray:
    if np.asarray(pd.isna(array)).any():
        raise ValueError(f"{_named(argument, place)} has missing values.")
    found, known = map(_countable, (array, categories))
    if (found is None) != (known is None):
        kinds = [
            f"{type(values.flat[0]).__name__} ({values.flat[0]!s})" for values in (array, categories) if values.size
        ]
        raise ValueError(
            f"{_named(argument, place)} holds values of another kind than its categories: "
            f"{' and '.join(kinds)}. Convert the column."
        )
    series = pd.Series(array).infer_objects() if found is None else pd.Series(found)
    codes = pd.Index(categories if known is None else known).get_indexer(series)
    unknown = codes == -1
    if unknown.any():
        if argument.unknown_value is None:
            raise ValueError(
                f"{_named(argument, place)} holds categories that were not there in `fit`: "
                f"{series[unknown].unique().tolist()}. Known are {categories.tolist()}. Give all unknown ones a code "
                "with `column_args`: {...: {'columns': ..., 'unknown_value': ...}}, list all categories there with "
                "'categories': [...], or make it a column of pandas' type 'category' before rows are split."
            )
        codes = np.where(unknown, argument.unknown_value, codes)
    return codes.astype(np.int32)
