"""Arrays whose rows are read, converted and checked as they are sliced."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from skaimz.kernels import as_floats, as_numbers, finite, narrowed
from skaimz.rows.arrays import ArrayRows, to_array
from skaimz.rows.protocol import RowSource
from skaimz.rows.sources import loaded_together, open_array, open_source

__all__ = ["LazyRows", "Reader", "check_numbers", "lazy_rows", "open_rows"]

# A conversion of rows: it takes rows, and the number of the first of them, which error messages name.
Reader = Callable[[np.ndarray, int], np.ndarray]


class LazyRows:
    """An array whose rows are converted as they are read.

    Parameters
    ----------
    source : RowSource, LazyRows or array
    convert : Reader, optional
        Makes the rows of this array from those of the source, which are taken as they are where it is left out.
    """

    def __init__(self, source: "RowSource | LazyRows | np.ndarray", convert: Reader = lambda rows, start: rows):
        self.source = ArrayRows(source) if isinstance(source, np.ndarray) else source
        self.convert = convert

    @functools.cached_property
    def _example(self) -> np.ndarray:
        return self[:1]

    @property
    def dtype(self) -> np.dtype:
        """Type of the converted rows."""
        return self._example.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._example.ndim

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and the shape of one row."""
        return len(self), *self._example.shape[1:]

    def __len__(self) -> int:
        return int(self.source.shape[0])

    def __getitem__(self, where: Any) -> Any:
        """Read a slice of rows; with a second index, return all rows with some of the columns, unread."""
        if isinstance(where, tuple) and len(where) == 2:
            return self.then(lambda rows: rows[:, where[1]])
        rows = where[0] if isinstance(where, tuple) else where
        return self.convert(self.source[rows], rows.start or 0)

    def then(self, change: Callable[[np.ndarray], np.ndarray]) -> "LazyRows":
        """Return these rows with one more conversion."""
        return LazyRows(self, lambda rows, start: change(rows))

    def floats(self, what: str, dtype: Any) -> "LazyRows":
        """Return these rows as floats of a type; error messages call them ``what``."""
        return LazyRows(self, lambda rows, start: as_floats(what, rows, dtype, start))

    def numbers(self, what: str, dtype: Any = None, *, allow_nan: bool = False) -> "LazyRows":
        """Return these rows with the checks of :func:`check_numbers`."""
        return LazyRows(self, lambda rows, start: check_numbers(what, rows, start, dtype, allow_nan=allow_nan))

    def fetch(self, slices: Iterable[slice]) -> None:
        """Read what the slices need, where reading it at once is quicker than slice by slice."""
        self.source.fetch(slices)


def check_numbers(what: str, rows: Any, start: int, dtype: Any = None, *, allow_nan: bool = False) -> np.ndarray:
    """Return rows as finite numbers, or refuse them.

    Parameters
    ----------
    what : str
        What error messages call the rows.
    rows : array-like
    start : int
        Number of the first row.
    dtype : dtype, optional
        Type of the floats that the numbers are computed with: they must fit into it.
    allow_nan : bool, default=False
        Whether numbers may be missing.
    """
    numbers = finite(what, as_numbers(what, rows), start, allow_nan=allow_nan)
    return numbers if dtype is None else narrowed(what, numbers, dtype, start)


def lazy_rows(value: Any) -> LazyRows | None:
    """Return rows that a call reads slice by slice, None for an array in memory and for a single value."""
    if isinstance(value, LazyRows):
        return value
    source = open_array(value)
    return None if source is None or source.is_array else LazyRows(_sliceable([source])[0])


def open_rows(
    X: Any, param_input: str, *, keeps_whole: bool = False, allow_nan: bool = False
) -> tuple[LazyRows, dict[str, LazyRows]] | None:
    """Return the input of a call that reads X slice by slice, and the arguments that come with it.

    Parameters
    ----------
    X : array-like or iterable of mappings
    param_input : str
        Name of the input among the arrays that come together.
    keeps_whole : bool, default=False
        Whether integers and booleans stay what they are.
    allow_nan : bool, default=False
        Whether X may have missing entries.

    Returns
    -------
    tuple of LazyRows and dict, or None
        None if scikit-learn checks all rows of X at once, as it does with arrays and tables.
    """
    source = open_source(X)
    if source is None or source.is_array or (source.slice_cost == "computation" and not source.has_fields):
        return None
    arrays = fields_of(source, param_input) if source.has_fields else {param_input: source}
    lazy = dict(zip(arrays, map(LazyRows, _sliceable(list(arrays.values()))), strict=True))
    rows, dtype = lazy.pop(param_input).numbers("X", allow_nan=allow_nan), arrays[param_input].dtype
    # Rows of type float32 keep it, all other floats become float64.
    stays = dtype == np.float32 or (keeps_whole and dtype.kind in "biu")
    return rows if stays else rows.floats("X", np.float64), lazy


def fields_of(source: RowSource, param_input: str) -> dict[str, RowSource]:
    """Return the arrays that come together, the input among them."""
    fields = dict(source.fields)
    if param_input not in fields:
        raise ValueError(f"X must hold the input {param_input!r} among its arrays, got {sorted(fields)}.")
    return fields


def _sliceable(sources: list[RowSource]) -> list[RowSource]:
    """Return sources of one origin, with their rows in memory if each slice would be computed anew."""
    if sources[0].slice_cost != "computation":
        return sources
    return [ArrayRows(to_array(rows)) for rows in loaded_together(sources)]
