"""Arguments of a kernel that are columns of X: where the columns are, and which codes stand for categories."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.utils import _safe_indexing

from skaimz.estimators._matching import comparable, countable, places
from skaimz.kernels import DURATIONS, TIMES, as_numbers, is_text_of_numbers, numbers_in, plain_array
from skaimz.rows import LazyRows, as_table

__all__ = [
    "Columns",
    "Naming",
    "arguments_of",
    "check_numeric",
    "columns_of",
    "culprits_named",
    "in_numbers",
    "number_of_codes",
    "open_arguments",
    "split_columns",
]

UNKNOWN = ("error", "new", "next")
SETTINGS = ("columns", "categories", "unknown", "unknown_value")
# Values that are not numbers but may stand for quantities, and how each kind is converted to numbers.
KINDS = {"durations": DURATIONS, "times": TIMES}
QUANTITIES = {
    "numbers stored as text": "`.astype(float)`",
    "durations": "`.dt.total_seconds()`",
    "times": "`(time - start) / pandas.Timedelta('1D')`",
}
# For each argument the categories of each of its columns, None for a column of numbers.
Categories = dict[str, list[np.ndarray | None]]


class Naming(NamedTuple):
    """Arguments that hold codes, as the kernel shows by a parameter ``n_<argument>`` for the number of codes.

    Attributes
    ----------
    possible : frozenset of str
        Arguments with such a parameter.
    required : frozenset of str
        Arguments whose parameter has no default and is not passed by the user.
    """

    possible: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()


NOT_COUNTED = Naming()


class _Argument(NamedTuple):
    """One item of ``column_args``, checked.

    Attributes
    ----------
    name : str
    places : list of int
    single : bool
        Whether the argument is one column and has one dimension.
    categories : array or None
        The categories that the user listed, in the order of their codes.
    unknown_value : int or None
        Code of categories that ``fit`` did not see; None if they have none.
    unknown : {"error", "new", "next"}
        What categories without a code are that ``fit`` did not see: errors, new levels, or levels that follow the last.
    """

    name: str
    places: list[int]
    single: bool
    categories: np.ndarray | None
    unknown_value: int | None
    unknown: str


def split_columns(
    X: Any,
    column_args: Any,
    known: Categories | None,
    names: Sequence[str] | None = None,
    *,
    learn: bool = False,
    naming: Naming = NOT_COUNTED,
) -> tuple[Any, dict[str, Any], Categories]:
    """Separate the kernel's arguments that are columns of X from the input.

    Parameters
    ----------
    X : array, data frame or LazyRows
    column_args : mapping or None
        The estimator's parameter.
    known : dict or None
        Categories that an earlier call returned; None in the first call.
    names : sequence of str, optional
        Names of the columns of an X without column names.
    learn : bool, default=False
        Whether the distinct values of a column may become its categories.
    naming : Naming, optional
        Arguments that hold codes.

    Returns
    -------
    rest : array, data frame or LazyRows
        The other columns, which are the kernel's input.
    arrays : dict of str to array or LazyRows
        The arguments, with integer codes for categories.
    categories : dict
        The categories of the arguments, for later calls.
    """
    if column_args is None:
        return X, {}, {}
    X = as_table(X)
    columns = getattr(X, "columns", names)
    arguments = arguments_of(column_args, X.shape[1], None if columns is None else list(columns))
    taken = {place for argument in arguments for place in argument.places}
    rest = [place for place in range(X.shape[1]) if place not in taken]
    if not rest:
        raise ValueError("`column_args` takes every column of X, so that none is left for the kernel's input.")
    arrays: dict[str, Any] = {}
    categories: Categories = {}
    for argument in arguments:
        of_columns = None if known is None else known.get(argument.name)
        if of_columns is None:
            of_columns = [_categories(X, argument, place, learn, naming) for place in argument.places]
        categories[argument.name] = of_columns
        arrays[argument.name] = _take(X, argument, of_columns)
    return columns_of(X, rest), arrays, categories


class Columns:
    """The columns of X, and the argument of the kernel that each belongs to.

    Parameters
    ----------
    X : array, data frame or LazyRows
        X as the user passed it.
    column_args : mapping or None
        The estimator's parameter.
    names : sequence of str or None
        Names of the columns of an X without column names.
    categories : dict
        The categories of arguments.
    """

    def __init__(self, X: Any, column_args: Any, names: Sequence[str] | None, categories: Categories):
        self.X, self.categories = X, categories
        columns = getattr(X, "columns", names)
        self.names = None if columns is None else list(columns)
        self._n_features = X.shape[1] if len(X.shape) == 2 else None
        self._arguments = [] if column_args is None else arguments_of(column_args, X.shape[1], self.names)
        taken = {place for argument in self._arguments for place in argument.places}
        self._rest = [place for place in range(self._n_features or 0) if place not in taken]

    def series(self, column: Any, what: str = "A scenario") -> Any:
        """Return a column with the type that the user passed; error messages say that ``what`` names the column."""
        series = columns_of(self.X, self._place(column, what))
        return series[:] if isinstance(series, LazyRows) else series

    def values(self, column: Any) -> np.ndarray:
        """Return the values of a column as the user passed them, with numbers in one of NumPy's types."""
        values = plain_array(self.series(column))
        numbers = numbers_in(values)
        return values if numbers is None else numbers

    def home(self, column: Any, what: str = "A scenario") -> tuple[str | None, int | None]:
        """Return the argument that a column belongs to, None for the input, and its place in that argument.

        The place is None if the column is the whole argument.
        """
        place = self._place(column, what)
        for argument in self._arguments:
            if place in argument.places:
                return argument.name, None if argument.single else argument.places.index(place)
        return None, self._rest.index(place)

    def _place(self, column: Any, what: str) -> int:
        if self._n_features is None:
            raise ValueError(
                f"{what} names column {column!r}, but X has the shape {tuple(self.X.shape)}, and only a table has "
                "columns. Change X as a whole, by {'arguments': {...: rows}}, or make what changes an argument of the "
                "kernel."
            )
        return _place(column, self._n_features, self.names, what)

    def categories_of(self, column: Any) -> np.ndarray | None:
        """Return the categories of a column, None if it holds numbers."""
        name, number = self.home(column)
        return None if name is None else self.categories.get(name, [None])[number or 0]

    def coded(self, column: Any, values: np.ndarray) -> np.ndarray:
        """Return values of a column with codes for categories, as the kernel gets them."""
        name, number = self.home(column)
        categories = self.categories_of(column)
        if categories is None:
            return values
        argument = next(argument for argument in self._arguments if argument.name == name)
        return _codes(values, categories, argument, argument.places[number or 0])


def open_arguments(column_args: Mapping[str, Any] | None, *kinds: str) -> list[str]:
    """Return the arguments whose unknown categories are new levels, of some kinds or of all."""
    settings = column_args.items() if isinstance(column_args, Mapping) else ()
    chosen = kinds or UNKNOWN[1:]
    return [name for name, setting in settings if isinstance(setting, Mapping) and setting.get("unknown") in chosen]


def number_of_codes(column_args: Mapping[str, Any] | None, categories: Categories) -> dict[str, int]:
    """Return the number of codes of each argument that has categories, including the code of unknown categories."""
    counts = {}
    for name, columns in categories.items():
        longest = max((len(column) for column in columns if column is not None), default=0)
        setting = (column_args or {})[name]
        unknown = setting.get("unknown_value") if isinstance(setting, Mapping) else None
        if longest:
            counts[name] = longest if unknown is None else max(longest, unknown + 1)
    return counts


def check_numeric(columns: Sequence[Any]) -> None:
    """Raise an error that names the columns of a data frame that do not hold numbers, if there are any."""
    if columns:
        raise ValueError(
            f"X must be numeric, but its columns {list(columns)} are not: encode them as numbers, leave them out, or "
            "name them in `column_args`."
        )


def in_numbers(what: str, values: Any) -> Any:
    """Return rows or outcomes in which Python objects that are numbers have one of NumPy's types.

    Raises
    ------
    ValueError
        If ``what``, X or y, holds times or durations, of which scikit-learn would take the count of their unit.
    """
    if hasattr(values, "columns"):
        _refuse_times(what, values)
    elif getattr(getattr(values, "dtype", None), "kind", "O") in "mM":
        as_numbers(what, values)
    if isinstance(values, pd.DataFrame):
        objects = [
            place for place, dtype in enumerate(values.dtypes) if isinstance(dtype, np.dtype) and dtype.hasobject
        ]
        values = values.copy() if objects else values
        for place in objects:
            numbers = numbers_in(values.iloc[:, place].to_numpy())
            if numbers is not None:
                values.isetitem(place, numbers)
        return values
    if isinstance(values, list | tuple):
        try:
            array = np.asarray(values)
        except ValueError:
            return values  # lists of unequal lengths, which scikit-learn refuses
        return in_numbers(what, array) if array.dtype.kind in "OmM" else values
    if isinstance(values, np.ndarray | pd.Series) and getattr(values.dtype, "hasobject", False):
        numbers = numbers_in(np.asarray(values))
        return values if numbers is None else numbers
    return values


def _refuse_times(what: str, frame: Any) -> None:
    """Refuse a data frame with columns of times or durations."""
    for name in frame.columns:
        kind = np.asarray(frame[:0][name]).dtype.kind
        if kind in "mM":
            of = "durations" if kind == "m" else "times"
            raise ValueError(
                f"{what} must be numeric, but its column {name!r} holds {of}: convert them to numbers of a unit, for "
                f"example by {QUANTITIES[of]}, or name the column in `column_args`."
            )


@contextlib.contextmanager
def culprits_named(X: Any, y: Any = None) -> Iterator[None]:
    """Replace an error about values that are not numbers by one that names the columns of a data frame, or y."""
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


def arguments_of(column_args: Any, n_features: int, names: list | None) -> list[_Argument]:
    """Return the items of ``column_args``, checked against the columns of X."""
    if not isinstance(column_args, Mapping):
        raise TypeError(f"`column_args` must map kernel arguments to columns of X, got {column_args!r}.")
    read = []
    for name, setting in column_args.items():
        settings = dict(setting) if isinstance(setting, Mapping) else {"columns": setting}
        if "columns" not in settings or not settings.keys() <= set(SETTINGS):
            raise ValueError(
                f"`column_args` must give {name!r} a column, a list of columns, or a mapping with 'columns' and, if "
                f"wanted, 'categories', 'unknown' and 'unknown_value', got {setting!r}."
            )
        columns: Any = settings["columns"]
        categories, unknown = settings.get("categories"), settings.get("unknown_value")
        single = not isinstance(columns, list | tuple)
        rule = settings.get("unknown", "error")
        if rule not in UNKNOWN or (rule != "error" and (unknown is not None or not single)):
            raise ValueError(
                f"`column_args` must give {name!r} an `unknown` of {list(UNKNOWN)}; new levels are for one column, "
                f"without `unknown_value`. Got {setting!r}."
            )
        if unknown is not None and (isinstance(unknown, bool) or not isinstance(unknown, int) or unknown < 0):
            raise ValueError(f"`column_args` must give {name!r} a non-negative `unknown_value`, got {unknown!r}.")
        columns = [columns] if single else list(columns)
        if not columns:
            raise ValueError(f"`column_args` must give {name!r} at least one column, got {setting!r}.")
        places = [_place(column, n_features, names, "`column_args`") for column in columns]
        listed = None if categories is None else _listed_categories(name, categories)
        read.append(_Argument(name, places, single, listed, unknown, rule))
    return read


def _listed_categories(name: str, categories: Any) -> np.ndarray:
    """Return the categories that the user lists for an argument, or refuse them."""
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
    """Return the position of a column that is named or counted; error messages say that ``what`` names it."""
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


def columns_of(X: Any, places: Any) -> Any:
    """Return one or several columns of an array, a data frame or LazyRows."""
    return X[:, places] if isinstance(X, LazyRows) else _safe_indexing(X, places, axis=1)


def _take(X: Any, argument: _Argument, categories: Sequence[np.ndarray | None]) -> Any:
    """Return the values of an argument, with codes where a column has categories."""

    def coded(array: np.ndarray, number: int) -> np.ndarray:
        of_column, place = categories[number], argument.places[number]
        if of_column is None:
            return as_numbers(_named(argument, place), array)
        return _codes(array, of_column, argument, place)

    def stacked(columns: Iterable[np.ndarray]) -> np.ndarray:
        arrays = [coded(column, number) for number, column in enumerate(columns)]
        return arrays[0] if argument.single else np.column_stack(arrays)

    if isinstance(X, LazyRows):
        return X[:, argument.places].then(lambda rows: stacked(rows.T))
    return stacked(plain_array(columns_of(X, place)) for place in argument.places)


def _named(argument: _Argument, place: int) -> str:
    return f"Column {place} of X, the kernel's argument {argument.name!r},"


def _categories(X: Any, argument: _Argument, place: int, learn: bool, naming: Naming) -> np.ndarray | None:
    """Return the categories of a column: those listed, those of its type, or its distinct values; None for numbers.

    How numbers and times are stored does not tell whether they are quantities or labels. They are categories if the
    kernel asks for the number of them.
    """
    if isinstance(X, LazyRows):
        return argument.categories
    column = columns_of(X, place)
    array = plain_array(column)
    if argument.categories is not None:
        # Times may be listed as text and stored as times.
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
            f"The categories of the kernel's argument {argument.name!r} are not known without `fit`, nor if a fit "
            f"reads rows in pieces: list them with {remedy}."
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
    """Return what kind of quantity values may be that are not numbers, None if they are labels."""
    if is_text_of_numbers(present):
        return "numbers stored as text"
    of_type = {"m": "durations", "M": "times"}.get(present.dtype.kind)
    return of_type or next(
        (name for name, types in KINDS.items() if present.size and all(isinstance(each, types) for each in present)),
        None,
    )


def _codes(array: np.ndarray, categories: np.ndarray, argument: _Argument, place: int) -> np.ndarray:
    """Return the positions of a column's values among its categories."""
    if np.asarray(pd.isna(array)).any():
        raise ValueError(f"{_named(argument, place)} has missing values.")
    numbers, known_numbers = map(countable, (array, categories))
    if (numbers is None) != (known_numbers is None):
        kinds = [
            f"{type(values.flat[0]).__name__} ({values.flat[0]!s})" for values in (array, categories) if values.size
        ]
        raise ValueError(
            f"{_named(argument, place)} holds values of another kind than its categories: "
            f"{' and '.join(kinds)}. Convert the column."
        )
    series = comparable(array)
    codes = places(categories if known_numbers is None else known_numbers, series, rounded=argument.unknown == "next")
    unknown = codes == -1
    if unknown.any():
        if argument.unknown_value is None:
            raise ValueError(
                f"{_named(argument, place)} holds categories that were not there in `fit`: "
                f"{series[unknown].unique().tolist()}. Known are {categories.tolist()}. Make them new levels of the "
                "population with `column_args`: {...: {'columns': ..., 'unknown': 'new'}}, or steps after the last "
                "with 'next', give all unknown ones a code with 'unknown_value': ..., list all categories with "
                "'categories': [...], or make it a column of pandas' type 'category' before rows are split."
            )
        codes = np.where(unknown, argument.unknown_value, codes)
    return codes.astype(np.int32)
